#!/usr/bin/env python3
"""The control socket: QEMU's protocol, its commands and events, and clients that misbehave.

usage: tests/control/test_qmp.py DOPPEL [unittest arguments]
"""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from qmp_client import HALT, POWER_OFF, RESET, SPIN, TIMEOUT, Client, Machine, connect

DOPPEL = ""


class Qmp(unittest.TestCase):
    def machine(self, code, *words, **options):
        machine = Machine(DOPPEL, code, *words, **options)
        self.addCleanup(machine.close)
        return machine

    def client(self, code=SPIN, *words, **options):
        return self.machine(code, *words, **options).qmp


class Protocol(Qmp):
    def test_greeting(self):
        greeting = self.client(negotiate=False).greeting["QMP"]
        self.assertEqual(set(greeting), {"version", "capabilities"})
        self.assertEqual(set(greeting["version"]["qemu"]), {"major", "minor", "micro"})
        self.assertIn("Doppel", greeting["version"]["package"])
        self.assertEqual(greeting["capabilities"], [])

    def test_negotiation_comes_first(self):
        qmp = self.client(negotiate=False)
        error = qmp.error("query-status")
        self.assertEqual(error["class"], "CommandNotFound")
        self.assertIn("qmp_capabilities", error["desc"])
        self.assertIn("not available", qmp.error("qmp_capabilities", enable=["oob"])["desc"])
        self.assertEqual(qmp.command("qmp_capabilities"), {})
        self.assertEqual(qmp.error("qmp_capabilities")["class"], "CommandNotFound")

    def test_id_is_echoed(self):
        qmp = self.client()
        for id_ in (7, "seven", [1, {"a": None}], 0.5):
            self.assertEqual(qmp.ask("query-name", id_=id_), {"return": {}, "id": id_})
            self.assertEqual(qmp.ask("frob", id_=id_)["id"], id_)

    def test_errors(self):
        qmp = self.client()
        for sent, text in (
                ({"execute": "frob"}, "The command frob has not been found"),
                ({"arguments": {}}, "lacks member 'execute'"),
                ({"execute": 1}, "member 'execute' must be a string"),
                ({"execute": "stop", "arguments": []}, "'arguments' must be an object"),
                ({"execute": "stop", "frob": 1}, "member 'frob' is unexpected"),
                ({"execute": "stop", "arguments": {"frob": 1}}, "Parameter 'frob' is unexpected"),
                ({"execute": "pmemsave"}, "Parameter 'val' is missing"),
                ({"execute": "balloon", "arguments": {"value": "1"}}, "for 'value', expected: integer"),
                ([1], "must be a JSON object")):
            with self.subTest(sent=sent):
                qmp.send(sent)
                self.assertIn(text, qmp.answer()["error"]["desc"])
        for sent in (b"7\n", b'"x"', b"null\n"):
            qmp.send(sent)
            self.assertIn("must be a JSON object", qmp.answer()["error"]["desc"])

    def test_broken_json_is_answered_and_skipped(self):
        for broken in (b"{]", b'{"execute" "stop"}', b'{"execute": "stop\n', b"frob\n", b"%p", b'{"a": 1, "a": 2}',
                       b"{\xff", b"}", b'{"execute": \xc3\x28}', b"[" * 2000 + b"\n", b'{"a": tru}',
                       b'{"n": 123456789012345678901234567890}', b'{"execute": "\\u12"}', b":", b'{"a\x00"}'):
            with self.subTest(broken=broken[:20]):
                qmp = self.client()
                qmp.send(broken)
                answer = qmp.answer()
                self.assertEqual(answer["error"]["class"], "GenericError")
                self.assertIn("JSON parse error", answer["error"]["desc"])
                qmp.send({"execute": "query-name", "id": "after"})
                while answer.get("id") != "after":
                    answer = qmp.answer()
                self.assertEqual(answer["return"], {})

    def test_too_long_is_refused(self):
        qmp = self.client()
        qmp.send(b'{"execute": "' + b"x" * (3 << 20) + b'"}')
        self.assertIn("too long", qmp.answer()["error"]["desc"])
        qmp.send({"execute": "query-name", "id": 1})
        while qmp.answer().get("id") != 1:
            pass

    def test_several_in_one_packet_and_one_in_several(self):
        qmp = self.client()
        qmp.send(b'{"execute":"query-name","id":1}{"execute":"query-name","id":2} '
                 b"{'execute':'query-name','id':'it\\'s \"3\"'}")
        self.assertEqual([qmp.answer()["id"] for _ in range(3)], [1, 2, 'it\'s "3"'])
        for byte in b'{"execute": "query-name", "id": "{[}\\""}':
            qmp.send(bytes([byte]))
        self.assertEqual(qmp.answer()["id"], '{[}"')

    def test_one_client_after_the_other(self):
        machine = self.machine(SPIN)
        machine.qmp.send(b'{"execute": "query-')
        machine.qmp.close()
        for _ in range(5):
            client = Client(machine.socket)
            self.assertEqual(client.command("query-status")["status"], "running")
            client.close()

    def test_a_client_that_does_not_read(self):
        """Its commands wait; the machine and other monitors go on."""
        machine = self.machine(SPIN, "-qmp", "unix:@second,server=on,wait=off")
        first, second = machine.qmp, Client(machine.path("second"))
        first.sock.setblocking(False)
        sent = 0
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            try:
                sent += first.sock.send(b'{"execute": "query-commands", "id": 5}' * 100)
            except BlockingIOError:
                if sent > 100000:
                    break
                time.sleep(0.01)
        self.assertEqual(second.command("query-status")["status"], "running")
        first.sock.settimeout(TIMEOUT)
        for _ in range(sent // 38):
            self.assertEqual(first.answer()["id"], 5)
        second.close()

    def test_pretty(self):
        machine = self.machine(SPIN, "-qmp-pretty", "unix:@pretty,server=on,wait=off")
        sock = connect(machine.path("pretty"))
        text = b""
        while not text.endswith(b"}\r\n"):
            text += sock.recv(4096)
        self.assertIn(b'\n    "QMP": {', text)
        sock.close()

    def test_commands_are_listed(self):
        names = {entry["name"] for entry in self.client().command("query-commands")}
        self.assertLessEqual({
            "qmp_capabilities", "query-status", "query-version", "query-commands", "stop", "cont", "quit",
            "system_reset", "system_powerdown", "send-key", "pmemsave", "memsave", "screendump", "query-block",
            "query-cpus-fast", "balloon", "query-balloon", "human-monitor-command", "query-name", "query-uuid",
            "query-kvm", "query-chardev"}, names)


class States(Qmp):
    def counter(self, machine):
        """What the guest counts, read past the guest."""
        machine.qmp.command("pmemsave", val=0x300000, size=4, filename=machine.path("counter"))
        with open(machine.path("counter"), "rb") as file:
            return int.from_bytes(file.read(), "little")

    def await_change(self, machine, before):
        """The guest goes on: soon, unless the host is busy."""
        end = time.monotonic() + TIMEOUT
        while self.counter(machine) == before:
            self.assertLess(time.monotonic(), end, "the guest stands still")
            time.sleep(0.01)

    def test_stop_and_cont(self):
        machine = self.machine(SPIN)
        qmp = machine.qmp
        self.assertEqual(qmp.command("query-status"), {"status": "running", "singlestep": False, "running": True})
        for _ in range(10):
            qmp.command("stop")
            event = qmp.event("STOP")
            self.assertAlmostEqual(event["timestamp"]["seconds"], time.time(), delta=TIMEOUT)
            self.assertLess(event["timestamp"]["microseconds"], 1000000)
            self.assertEqual(qmp.command("query-status")["status"], "paused")
            before = self.counter(machine)
            time.sleep(0.05)
            self.assertEqual(self.counter(machine), before)
            qmp.command("cont")
            qmp.event("RESUME")
            self.await_change(machine, before)

    def test_start_stopped(self):
        machine = self.machine(SPIN, "-S")
        self.assertEqual(machine.qmp.command("query-status")["status"], "prelaunch")
        time.sleep(0.1)
        self.assertEqual(self.counter(machine), 0)
        machine.qmp.command("cont")
        self.await_change(machine, 0)

    def test_quit(self):
        machine = self.machine(SPIN)
        machine.qmp.command("quit")
        self.assertEqual(machine.qmp.event("SHUTDOWN")["data"], {"guest": False, "reason": "host-qmp-quit"})
        self.assertEqual(machine.wait(), 0)
        self.assertFalse(os.path.exists(machine.socket))

    def test_signal(self):
        machine = self.machine(SPIN)
        machine.process.terminate()
        self.assertEqual(machine.qmp.event("SHUTDOWN")["data"], {"guest": False, "reason": "host-signal"})
        self.assertEqual(machine.wait(), 128 + 15)

    def test_system_reset(self):
        machine = self.machine(SPIN)
        machine.qmp.command("system_reset")
        self.assertEqual(machine.qmp.event("RESET")["data"],
                         {"guest": False, "reason": "host-qmp-system-reset"})
        self.assertEqual(machine.qmp.command("query-status")["status"], "running")

    def test_system_reset_while_stopped(self):
        machine = self.machine(SPIN)
        machine.qmp.command("stop")
        machine.qmp.command("system_reset")
        machine.qmp.event("RESET")
        self.assertEqual(machine.qmp.command("query-status")["status"], "prelaunch")
        machine.qmp.command("cont")
        self.assertEqual(machine.qmp.command("query-status")["status"], "running")

    def test_system_reset_without_reboot_ends(self):
        machine = self.machine(SPIN, "-action", "reboot=shutdown")
        machine.qmp.command("system_reset")
        self.assertEqual(machine.qmp.event("SHUTDOWN")["data"]["reason"], "host-qmp-system-reset")
        self.assertEqual(machine.wait(), 0)

    def test_guest_powers_off(self):
        machine = self.machine(POWER_OFF, "-S")
        machine.qmp.command("cont")
        self.assertEqual(machine.qmp.event("SHUTDOWN")["data"], {"guest": True, "reason": "guest-shutdown"})
        self.assertEqual(machine.wait(), 0)

    def test_guest_powers_off_and_the_machine_stays(self):
        for words in (["-no-shutdown"], ["-action", "shutdown=pause"]):
            machine = self.machine(POWER_OFF, "-S", *words)
            qmp = machine.qmp
            qmp.command("cont")
            qmp.event("SHUTDOWN")
            qmp.event("STOP")
            self.assertEqual(qmp.command("query-status")["status"], "shutdown")
            self.assertIn("Resetting", qmp.error("cont")["desc"])
            qmp.command("system_reset")
            qmp.event("RESET")
            qmp.command("cont")
            qmp.event("SHUTDOWN")
            qmp.command("quit")
            self.assertEqual(machine.wait(), 0)

    def test_guest_resets(self):
        machine = self.machine(RESET, "-S")
        machine.qmp.command("cont")
        self.assertEqual(machine.qmp.event("RESET")["data"], {"guest": True, "reason": "guest-reset"})

    def test_power_button(self):
        machine = self.machine(SPIN)
        machine.qmp.command("system_powerdown")
        machine.qmp.event("POWERDOWN")
        # PM1_STS.PWRBTN_STS waits for the guest.
        self.assertEqual(machine.qmp.command("query-status")["status"], "running")


class Commands(Qmp):
    def test_names(self):
        uuid = "01234567-89ab-cdef-0123-456789abcdef"
        qmp = self.client(SPIN, "-name", "guest=box,debug-threads=on", "-uuid", uuid)
        self.assertEqual(qmp.command("query-name"), {"name": "box"})
        self.assertEqual(qmp.command("query-uuid"), {"UUID": uuid})
        self.assertEqual(qmp.command("query-kvm"), {"enabled": False, "present": False})
        self.assertEqual(qmp.hmp("info name"), "box\r\n")

    def test_processors(self):
        machine = self.machine(SPIN, "-smp", "3")
        cpus = machine.qmp.command("query-cpus-fast")
        self.assertEqual([cpu["cpu-index"] for cpu in cpus], [0, 1, 2])
        for cpu in cpus:
            self.assertTrue(os.path.isdir("/proc/%d/task/%d" % (machine.process.pid, cpu["thread-id"])))

    def test_disks(self):
        machine = self.machine(HALT, "-S", "-drive", "file=@kernel,format=raw,readonly=on,id=d,if=none")
        disk, = machine.qmp.command("query-block")
        self.assertEqual(disk["device"], "d")
        self.assertEqual(disk["inserted"]["ro"], True)
        self.assertEqual(disk["inserted"]["image"]["filename"], machine.path("kernel"))
        self.assertIn("d: %s (raw, read-only)" % machine.path("kernel"), machine.qmp.hmp("info block"))

    def test_disk_cache(self):
        for words, expected in (("cache=none", "writeback, direct"), ("cache=directsync", "writethrough, direct"),
                                ("cache.writeback=off", "writethrough"), ("cache.direct=on", "writeback, direct"),
                                ("cache=writethrough,cache.no-flush=on", "writethrough, ignore flushes")):
            machine = self.machine(HALT, "-S", "-drive", "file=@kernel,format=raw,readonly=on," + words)
            self.assertRegex(machine.qmp.hmp("info block"), r"Cache mode: +%s\r?\n" % expected)
            machine.close()

    def test_disk_statistics(self):
        machine = self.machine(HALT, "-S", "-drive", "file=@kernel,format=raw,readonly=on,id=c")
        disk, = machine.qmp.command("query-blockstats")
        self.assertEqual(disk["device"], "c")
        for kind in ("rd", "wr", "unmap"):
            for name in ("%s_bytes", "%s_operations", "%s_total_time_ns", "failed_%s_operations"):
                self.assertEqual(disk["stats"][name % kind], 0)
        self.assertIn("c: rd_bytes=0 wr_bytes=0 rd_operations=0", machine.qmp.hmp("info blockstats"))

    def test_pci(self):
        machine = self.machine(HALT, "-S", "-device", "virtio-rng-pci,id=r", "-nic", "user,mac=52:54:00:00:00:07")
        bus, = machine.qmp.command("query-pci")
        bridge = bus["devices"][0]
        self.assertEqual((bridge["slot"], bridge["id"]["vendor"], bridge["id"]["device"]), (0, 0x8086, 0x1237))
        self.assertEqual(bridge["class_info"], {"class": 0x600, "desc": "Host bridge"})
        rng, = [device for device in bus["devices"] if device["qdev_id"] == "r"]
        self.assertEqual((rng["id"]["vendor"], rng["id"]["device"]), (0x1af4, 0x1044))
        self.assertEqual([(region["bar"], region["type"]) for region in rng["regions"]], [(1, "memory"), (4, "memory")])
        self.assertIn("PCI device 1af4:1044", machine.qmp.hmp("info pci"))
        self.assertIn("macaddr=52:54:00:00:00:07\r\n \\ ", machine.qmp.hmp("info network"))

    def test_disk_names_are_qemus(self):
        words = ["file=@kernel,format=raw,readonly=on,file.locking=off," + end for end in (
            "if=virtio", "if=ide,index=1", "if=ide,media=cdrom", "if=virtio", "if=none,id=x", "if=floppy")]
        machine = self.machine(HALT, "-S", *[word for drive in words for word in ("-drive", drive)])
        self.assertIn("    Attached to:      /machine/unattached/virtio0", machine.qmp.hmp("info block"))
        self.assertEqual([disk["device"] for disk in machine.qmp.command("query-block")],
                         ["virtio0", "ide0-hd1", "ide0-cd0", "virtio1", "x", "floppy0"])

    def test_media(self):
        words = ["-S", "-cdrom", "", "-fda", "", "-drive", "file=@one,format=raw,if=none,id=fixed",
                 "-device", "virtio-blk-pci,drive=fixed", "-drive", "if=none,id=second,media=cdrom",
                 "-device", "ide-cd,drive=second,id=drive2"]
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        images = [os.path.join(directory.name, name) for name in ("one", "two")]
        for image in images:
            with open(image, "wb") as file:
                file.truncate(1440 << 10)
        machine = self.machine(HALT, *[word.replace("@one", images[1]) for word in words])
        qmp = machine.qmp

        def drive(name):
            return {disk["device"]: disk for disk in qmp.command("query-block")}[name]

        cd = drive("ide1-cd0")
        self.assertEqual((cd["removable"], cd["locked"], cd["tray_open"]), (True, False, False))
        self.assertNotIn("inserted", cd)
        self.assertEqual(drive("second")["qdev"], "drive2")
        self.assertEqual(drive("fixed")["removable"], False)
        self.assertNotIn("tray_open", drive("fixed"))
        qmp.command("blockdev-change-medium", device="ide1-cd0", filename=images[0])
        moves = [qmp.event("DEVICE_TRAY_MOVED")["data"] for _ in range(2)]
        self.assertEqual([move["tray-open"] for move in moves], [True, False])
        self.assertEqual(moves[0]["device"], "ide1-cd0")
        self.assertEqual(drive("ide1-cd0")["inserted"]["file"], images[0])
        self.assertEqual(drive("ide1-cd0")["inserted"]["ro"], True)
        qmp.command("blockdev-change-medium", id="drive2", filename=images[0], format="raw")
        self.assertEqual(drive("second")["inserted"]["file"], images[0])
        qmp.command("blockdev-change-medium", device="ide1-cd0", filename=images[0])  # the same
        error = qmp.error("blockdev-change-medium", device="ide1-cd0", filename="/nowhere")
        self.assertIn("/nowhere", error["desc"])
        self.assertEqual(drive("ide1-cd0")["inserted"]["file"], images[0])
        qmp.command("eject", device="ide1-cd0")
        self.assertTrue(drive("ide1-cd0")["tray_open"])
        self.assertNotIn("inserted", drive("ide1-cd0"))
        qmp.command("eject", device="ide1-cd0")  # nothing there: no matter
        qmp.command("blockdev-close-tray", id="drive2")
        qmp.command("blockdev-open-tray", id="drive2")
        self.assertTrue(drive("second")["tray_open"])
        self.assertIn("inserted", drive("second"))
        qmp.command("blockdev-remove-medium", id="drive2")
        for text, command, arguments in (
                ("is not removable", "eject", {"device": "fixed"}),
                ("not found", "eject", {"device": "frob"}),
                ("exactly one", "eject", {}),
                ("exactly one", "eject", {"device": "second", "id": "drive2"}),
                ("is not open", "blockdev-remove-medium", {"id": "floppy0"}),
                ("Unknown driver", "blockdev-change-medium",
                 {"device": "second", "filename": images[0], "format": "vmdk"}),
                ("does not accept", "blockdev-change-medium",
                 {"device": "second", "filename": images[0], "read_only_mode": "maybe"})):
            with self.subTest(command=command, arguments=arguments):
                if command == "blockdev-remove-medium":
                    qmp.hmp("change floppy0 " + images[0])
                self.assertIn(text, qmp.error(command, **arguments)["desc"])
        self.assertEqual(drive("floppy0")["inserted"]["ro"], False)
        self.assertIn("in use", qmp.hmp("change floppy0 " + images[1]))
        self.assertEqual(qmp.hmp("eject floppy0"), "")
        self.assertEqual(qmp.hmp("change floppy0 %s raw read-only" % images[0]), "")
        self.assertEqual(drive("floppy0")["inserted"]["ro"], True)
        self.assertIn("floppy0: %s (raw, read-only)\r\n    Attached to:      /machine/unattached/floppy0\r\n"
                      "    Removable device: not locked, tray closed" %
                      images[0], qmp.hmp("info block"))
        self.assertIn("second: [not inserted]", qmp.hmp("info block"))

    def test_what_clients_ask_at_their_start(self):
        qmp = self.client(SPIN, "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,id=card")
        self.assertEqual(qmp.command("query-machines")[0]["name"], "pc")
        self.assertIn("max", [model["name"] for model in qmp.command("query-cpu-definitions")])
        self.assertEqual(qmp.command("query-target"), {"arch": "x86_64"})
        self.assertEqual(qmp.command("query-migrate"), {})
        cpu, = qmp.command("query-hotpluggable-cpus")  # there already, so that none can be added
        self.assertEqual(cpu["qom-path"], qmp.command("query-cpus-fast")[0]["qom-path"])
        for name in ("query-iothreads", "query-jobs", "query-block-jobs", "query-tpm", "query-memory-devices",
                     "query-memdev", "query-fdsets"):
            self.assertEqual(qmp.command(name), [])
        self.assertEqual(qmp.error("query-qmp-schema")["class"], "CommandNotFound")
        for name, answer in (("n", "return"), ("card", "return"), ("", "error")):
            qmp.send({"execute": "set_link", "arguments": {"name": name, "up": False}})
            self.assertIn(answer, qmp.answer())
        self.assertEqual(qmp.hmp("set_link card on"), "")
        self.assertIn("not found", qmp.hmp("set_link frob on"))

    def test_clock(self):
        # Century and year by ports 70h and 71h: 2099.
        code = b"".join(b"\xb0%c\xe6\x70\xb0%c\xe6\x71" % pair for pair in ((0x32, 0x20), (9, 0x99)))
        qmp = self.client(code + HALT, "-S")
        qmp.command("cont")
        # On a busy host the first register may be told before the second is written.
        offsets = [qmp.event("RTC_CHANGE")["data"]["offset"]]
        if offsets[-1] <= 365 * 86400:
            offsets.append(qmp.event("RTC_CHANGE")["data"]["offset"])
        self.assertGreater(offsets[-1], 365 * 86400)

    def test_lines(self):
        machine = self.machine(SPIN)
        lines = {line["label"]: line["filename"] for line in machine.qmp.command("query-chardev")}
        self.assertEqual(lines["serial0"], "null")
        self.assertEqual(lines["compat_monitor0"], "unix:%s,server=on" % machine.socket)

    def test_balloon(self):
        qmp = self.client()
        self.assertEqual(qmp.error("query-balloon")["class"], "DeviceNotActive")
        self.assertEqual(qmp.error("balloon", value=1)["class"], "DeviceNotActive")
        qmp = self.client(SPIN, "-device", "virtio-balloon-pci")
        self.assertEqual(qmp.command("query-balloon"), {"actual": 16 << 20})
        self.assertEqual(qmp.command("balloon", value=8 << 20), {})
        self.assertIn("expects a size", qmp.error("balloon", value=0)["desc"])

    def test_balloon_statistics(self):
        """Without a driver there are none; devices_* ask a real one."""
        qmp = self.client(SPIN, "-device", "virtio-balloon-pci,id=b0", "-device", "virtio-rng-pci,id=r0")
        path, interval = "/machine/peripheral/b0", "guest-stats-polling-interval"
        told = qmp.command("qom-get", path=path, property="guest-stats")
        self.assertEqual(told["last-update"], 0)
        self.assertEqual(len(told["stats"]), 10)
        self.assertEqual(set(told["stats"].values()), {-1})
        self.assertEqual(qmp.command("qom-get", path=path, property=interval), 0)
        self.assertEqual(qmp.command("qom-set", path=path, property=interval, value=2), {})
        self.assertEqual(qmp.command("qom-get", path=path, property=interval), 2)
        for value in (-1, 1 << 32, "2", None):
            self.assertIn("value" if isinstance(value, int) else "expected: integer",
                          qmp.error("qom-set", path=path, property=interval, value=value)["desc"])
        self.assertIn("cannot be set", qmp.error("qom-set", path=path, property="guest-stats", value=1)["desc"])
        for elsewhere in (path, "/machine/peripheral/r0"):
            self.assertIn("not found", qmp.error("qom-get", path=elsewhere, property="frob")["desc"])
        self.assertIn("not found", qmp.error("qom-get", path="/machine/peripheral/r0", property="guest-stats")["desc"])
        for nowhere in ("", "/machine/peripheral/", "/machine/peripheral/frob", "b0"):
            self.assertEqual(qmp.error("qom-get", path=nowhere, property=interval)["class"], "DeviceNotFound")

    def test_memory(self):
        machine = self.machine(HALT)
        code = HALT
        for name, extra in (("pmemsave", {}), ("memsave", {}), ("memsave", {"cpu_index": 0})):
            path = machine.path("memory")
            machine.qmp.command(name, val=0x200020, size=len(code), filename=path, **extra)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), code)
            os.unlink(path)
            beyond = [(16 << 20, 1), ((16 << 20) - 1, 2)] if name == "memsave" else []
            for val, size in beyond + [(0, 1 << 40), (-1, 2), (0, -1)]:
                error = machine.qmp.error(name, val=val, size=size, filename=path, **extra)
                self.assertIn("Invalid addr", error["desc"])
                self.assertFalse(os.path.exists(path))
        # All of memory, the VGA's window in it and a page behind it: zeros where there is none.
        machine.qmp.command("pmemsave", val=0, size=(16 << 20) + 4096, filename=path)
        with open(path, "rb") as file:
            whole = file.read()
        self.assertEqual(len(whole), (16 << 20) + 4096)
        self.assertEqual(whole[0x200020:0x200020 + len(code)], code)
        self.assertEqual(whole[0xb8000:0xb9000] + whole[16 << 20:], bytes(8192))
        self.assertIn("cpu-index", machine.qmp.error("memsave", val=0, size=1, filename="x", cpu_index=9)["desc"])
        self.assertIn("Could not open", machine.qmp.error("pmemsave", val=0, size=1, filename="/no/where")["desc"])

    def test_keys(self):
        qmp = self.client()
        key = {"type": "qcode", "data": "ret"}
        qmp.command("send-key", keys=[{"type": "qcode", "data": "ctrl"}, key], hold_time=1)
        qmp.command("send-key", keys=[{"type": "number", "data": 0x1e}, {"type": "number", "data": 0xc8}])
        for keys in ([], [1], [{"type": "qcode", "data": "frob"}], [{"type": "qcode", "data": 1}], [key] * 50,
                     [{"type": "number", "data": "a"}], [{"type": "number", "data": 0}],
                     [{"type": "number", "data": 0x1001e}], [{"type": "number", "data": -1}], [{"data": 1}]):
            self.assertEqual(qmp.error("send-key", keys=keys)["class"], "GenericError")
        self.assertEqual(qmp.hmp("sendkey ctrl-alt-delete"), "")
        self.assertEqual(qmp.hmp("sendkey 0x1d-0x38-0xd3"), "")
        self.assertIn("invalid", qmp.hmp("sendkey ctrl-frob"))
        self.assertIn("invalid", qmp.hmp("sendkey 0x1d-0x100"))

    def test_registers(self):
        # mov $0x12345678,%eax; mov $0xcafe,%ecx
        qmp = self.client(b"\xb8\x78\x56\x34\x12\xb9\xfe\xca\x00\x00" + HALT, "-smp", "2")
        deadline = time.monotonic() + TIMEOUT
        while "HLT=1" not in qmp.hmp("info registers"):
            self.assertLess(time.monotonic(), deadline)
        text = qmp.hmp("info registers")
        self.assertIn("RAX=0000000012345678", text)
        self.assertIn("RCX=000000000000cafe", text)
        self.assertRegex(text, r"RIP=0000000000200[0-9a-f]{3} RFL=")
        self.assertRegex(text, r"CS =[0-9a-f]{4} 0{16} ffffffff 00[0-9a-f]{6} DPL=0 CS32 \[-R")
        self.assertEqual(len(re.findall(r"CPU#\d", qmp.hmp("info registers -a"))), 2)
        self.assertEqual(qmp.hmp("p $eax+1"), "0x12345679\r\n")
        self.assertEqual(qmp.hmp("print /d ($ecx - 1) * 2"), "%d\r\n" % ((0xcafe - 1) * 2))
        self.assertEqual(qmp.hmp("x /2xb 0x200020"), "0000000000200020: 0xb8 0x78\r\n")
        self.assertEqual(qmp.hmp("xp/1xw 0x200021"), "0000000000200021: 0x12345678\r\n")
        self.assertRegex(qmp.hmp("x/2i 0x200020"), r"b8 78 56 34 12 +mov eax, 0x12345678\r\n.*mov ecx, 0xCAFE")
        self.assertIn("Cannot access", qmp.hmp("xp /4x 0x40000000"))
        self.assertEqual(qmp.hmp("info mem"), "PG disabled\r\n")
        self.assertEqual(qmp.hmp("gva2gpa 0x1234"), "gpa: 0x1234\r\n")

    def test_text_commands(self):
        qmp = self.client(SPIN, "-smp", "2")
        self.assertEqual(qmp.hmp("info status"), "VM status: running\r\n")
        qmp.hmp("stop")
        self.assertEqual(qmp.hmp("info status"), "VM status: paused\r\n")
        qmp.hmp("cont")
        self.assertIn("unknown command", qmp.hmp("frob"))
        self.assertIn("info registers", qmp.hmp("info"))
        self.assertIn("sendkey", qmp.hmp("help"))
        self.assertRegex(qmp.hmp("info cpus"), r"^\* CPU #0: thread_id=\d+\r\n  CPU #1: thread_id=\d+\r\n$")
        self.assertIn("usage", qmp.hmp("x"))
        for line in ("", "   ", "x /99999999999x 0", "x /q 0", "p 1/0", "p " + "(" * 500, "x /4i $frob", "p 1 2",
                     "info frob", "cpu 99", "memsave 0 0", "/", "x/", "p/"):
            qmp.hmp(line)
        self.assertEqual(qmp.hmp("info status"), "VM status: running\r\n")

    def test_ports(self):
        qmp = self.client(SPIN, "-device", "pc-testdev")
        self.assertEqual(qmp.hmp("i /b 0x70 0x0d"), "portb[0x0071] = 0x80\r\n")
        self.assertEqual(qmp.hmp("o /w 0xe0 0x87654321"), "")
        for line, answer in (("i 0xe0", "portl[0x00e0] = 0x87654321"), ("i /h 0xe2", "portw[0x00e2] = 0x8765"),
                             ("i /b 0xe1", "portb[0x00e1] = 0x43"), ("i /g 0xe8", "portl[0x00e8] = 0x87654321")):
            self.assertEqual(qmp.hmp(line), answer + "\r\n")
        qmp.hmp("o /b 0xeb 0x55")
        self.assertEqual(qmp.hmp("i/w 0xe0"), "portl[0x00e0] = 0x55654321\r\n")
        for line in ("o /b 0xe0", "o 0xe0", "i /b", "i /q 0", "i x", "o 0xe0 y"):
            self.assertNotEqual(qmp.hmp(line), "")

    def test_files_and_sums(self):
        qmp = self.client(SPIN)
        qmp.hmp("stop")
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, 'a "b" c')
        self.assertEqual(qmp.hmp('pmemsave 0x200000 512 "%s"' % path.replace('"', '\\"')), "")
        with open(path, "rb") as file:
            data = file.read()
        self.assertEqual(len(data), 512)
        total = 0
        for byte in data:
            total = ((total >> 1 | total << 15) + byte) & 0xffff
        self.assertEqual(qmp.hmp("sum 0x200000 512"), "%05d\r\n" % total)
        self.assertIn("no memory", qmp.hmp("sum 0x40000000 1"))
        infos = qmp.hmp("help info").splitlines()
        self.assertGreater(len(infos), 10)
        for line in infos:
            self.assertRegex(line, "^info [a-z]+ ")
        self.assertRegex(qmp.hmp("help sum"), "^sum .*\r\n$")

    def test_screendump(self):
        machine = self.machine(SPIN, "-vga", "std")
        for words, magic in (({}, b"P6\n"), ({"format": "png"}, b"\x89PNG\r\n")):
            path = machine.path("screen")
            machine.qmp.command("screendump", filename=path, **words)
            with open(path, "rb") as file:
                self.assertTrue(file.read().startswith(magic))
        self.assertEqual(machine.qmp.hmp("screendump " + path), "")
        self.assertIn("'format'", machine.qmp.error("screendump", filename=path, format="gif")["desc"])
        self.assertEqual(machine.qmp.error("screendump", filename="/no/where")["class"], "GenericError")

    def test_screendump_without_screen(self):
        machine = self.machine(SPIN, "-vga", "none")
        self.assertIn("no console", machine.qmp.error("screendump", filename=machine.path("screen"))["desc"])


class Lines(Qmp):
    def test_tcp(self):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        self.machine(SPIN, "-qmp", "tcp:127.0.0.1:%d,server,nowait" % port)
        qmp = Client(sock=socket.create_connection(("127.0.0.1", port), TIMEOUT))
        self.assertEqual(qmp.command("query-status")["status"], "running")
        qmp.close()

    def test_stdio(self):
        machine = self.machine(SPIN)
        done = subprocess.run([DOPPEL, "run", "-kernel", machine.path("kernel"), "-qmp", "stdio"],
                              input=b'{"execute": "qmp_capabilities"}{"execute": "quit"}',
                              capture_output=True, timeout=TIMEOUT, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(lines[1:3], [{"return": {}}, {"return": {}}])
        self.assertEqual(lines[3]["event"], "SHUTDOWN")

    def test_wait_for_client(self):
        machine = self.machine(SPIN)
        path = machine.path("late")
        with subprocess.Popen([DOPPEL, "run", "-kernel", machine.path("kernel"), "-serial", "null", "-qmp",
                               "unix:%s,server=on" % path], stderr=subprocess.PIPE) as process:
            self.assertIn(b"waiting for connection", process.stderr.readline())
            qmp = Client(path)
            qmp.command("quit")
            self.assertEqual(process.wait(TIMEOUT), 0)
            qmp.close()
        with subprocess.Popen([DOPPEL, "run", "-kernel", machine.path("kernel"), "-serial", "null", "-qmp",
                               "unix:%s,server=on" % path], stderr=subprocess.PIPE) as process:
            process.stderr.readline()
            process.terminate()
            self.assertIn(b"nobody connected", process.stderr.read())
            self.assertEqual(process.wait(TIMEOUT), 3)

    def monitor(self, path):
        sock = connect(path)
        self.addCleanup(sock.close)
        return sock

    def read_until(self, sock, end):
        text = b""
        while not text.endswith(end):
            piece = sock.recv(4096)
            self.assertTrue(piece, text)
            text += piece
        return text

    def test_text_monitor(self):
        machine = self.machine(SPIN, "-monitor", "unix:@monitor,server,nowait")
        sock = self.monitor(machine.path("monitor"))
        self.assertIn(b"monitor - type 'help'", self.read_until(sock, b"(qemu) "))
        sock.sendall(b"infx\x7fo status\r\n")
        self.assertIn(b"\r\nVM status: running\r\n", self.read_until(sock, b"(qemu) "))
        sock.sendall(b"stop\nfrob\x15\x1b[A\n")
        self.read_until(sock, b"(qemu) ")
        machine.qmp.event("STOP")
        sock.sendall(b"quit\n")
        self.assertEqual(machine.wait(), 0)

    def test_mux(self):
        """Two serial lines' worth of users on one socket: guest and monitor, Ctrl-a c between."""
        # Echoes what the serial line gets.
        echo = (b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xfb\x66\xba\xf8\x03\xec\xee\xeb\xef")
        machine = self.machine(echo, "-chardev", "socket,id=c,path=@both,server=on,wait=off,mux=on", "-serial",
                               "chardev:c", "-mon", "chardev=c,mode=readline")
        # The harness's own -serial null is the first serial line; this one is the second, where nobody echoes.
        sock = self.monitor(machine.path("both"))
        sock.sendall(b"\x01c")
        self.assertIn(b"monitor - type 'help'", self.read_until(sock, b"(qemu) "))
        sock.sendall(b"info status\r")
        self.assertIn(b"VM status: running", self.read_until(sock, b"(qemu) "))
        sock.sendall(b"\x01cinfo status\r\x01cstop\r")
        machine.qmp.event("STOP")

    def test_mux_of_serial_and_monitor(self):
        echo = (b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xfb\x66\xba\xf8\x03\xec\xee\xeb\xef")
        machine = self.machine(SPIN)
        with open(machine.path("kernel"), "r+b") as file:
            file.seek(32)
            file.write(echo)
        with subprocess.Popen([DOPPEL, "run", "-kernel", machine.path("kernel"), "-serial", "mon:stdio"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdin.write(b"a")
            process.stdin.flush()
            self.assertEqual(process.stdout.read(1), b"a")
            process.stdin.write(b"\x01cinfo status\n")
            process.stdin.flush()
            text = b""
            while not text.endswith(b"running\r\n(qemu) "):
                text += process.stdout.read(1)
            process.stdin.write(b"\x01cb")
            process.stdin.flush()
            self.assertEqual(process.stdout.read(1), b"b")
            process.stdin.write(b"\x01cquit\n")
            process.stdin.flush()
            self.assertEqual(process.wait(TIMEOUT), 0)


class Background(Qmp):
    def test_daemonize(self):
        machine = self.machine(SPIN)
        pid_file, path = machine.path("pid"), machine.path("daemon")
        words = [DOPPEL, "run", "-kernel", machine.path("kernel"), "-qmp", "unix:%s,server=on,wait=off" % path,
                 "-pidfile", pid_file, "-daemonize"]
        done = subprocess.run(words, capture_output=True, timeout=TIMEOUT, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
        with open(pid_file, encoding="ascii") as file:
            self.assertTrue(os.path.isdir("/proc/%d" % int(file.read())))
        qmp = Client(path)
        qmp.command("quit")
        qmp.event("SHUTDOWN")
        qmp.close()
        deadline = time.monotonic() + TIMEOUT
        while os.path.exists(pid_file):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_daemonize_tells_what_fails(self):
        done = subprocess.run([DOPPEL, "run", "-kernel", "/no/where", "-daemonize"], capture_output=True,
                              timeout=TIMEOUT, check=False)
        self.assertEqual(done.returncode, 3)
        self.assertIn(b"/no/where", done.stderr)


if __name__ == "__main__":
    DOPPEL = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=1)
