# Times Debian's programs, natively or in a guest: prints "NAME SECONDS CHECKSUM", as workloads does.
# For bash, as root of the userland that tools/userland.sh makes; the work's files are in /work.
export PATH=/usr/bin:/bin LC_ALL=C

# $1: a name; the rest: a command, whose output is the checksum's.
timed() {
    local name=$1 start=$EPOCHREALTIME sum
    shift
    sum=$("$@" | sha256sum)
    local end=$EPOCHREALTIME us
    us=$((${end/./} - ${start/./}))
    printf '%s %d.%06d %.16s\n' "$name" $((us / 1000000)) $((us % 1000000)) "$sum"
}

# openssl counts what it gets done in a time: the seconds for `amount` bytes or signatures.
speed() {
    local name=$1 words=$2 amount=$3 line rate=1 us
    openssl speed -elapsed -seconds 2 -mr $words >/work/speed 2>/dev/null
    while IFS= read -r line; do
        case $line in
            +F:*) rate=${line##*:} ;;                           # bytes a second
            +F2:*) rate=${line#*:*:*:} rate=${rate%%:*} ;;      # signatures a second
        esac
    done </work/speed
    us=$((amount * 1000000 / ${rate%%.*}))
    printf '%s %d.%06d 0000000000000000\n' "$name" $((us / 1000000)) $((us % 1000000))
}

python_loop() {
    python3 -c '
class Record:
    def __init__(self, n):
        self.n, self.next = n, None
total, head = 0, None
for i in range(2500000):
    record = Record(i % 97)
    record.next, head = (head if i % 5 else None), record
    total = (total * 31 + record.n + (head.next.n if head.next else 1)) % 1000003
print(total)'
}

# Functions made, translated and thrown away by the thousand, and a loop that stays.
luajit_loop() {
    /usr/bin/luajit* -e '
local sum = 0
for i = 1, 60000000 do sum = (sum * 7 + i) % 1000003 end
for k = 1, 4000 do
    local step = loadstring("local a = ... for i = 1, 2000 do a = (a * " .. k .. " + i) % 1000003 end return a")
    sum = (sum + step(k)) % 1000003
end
print(sum)'
}

compile() {
    gcc -O2 -S -o - /work/long.c
}

mkdir -p /work
head -c 52428800 /usr/lib/gcc/x86_64-linux-gnu/12/cc1 /usr/bin/gdb /usr/lib/x86_64-linux-gnu/lib*.so.* \
    2>/dev/null | head -c 104857600 >/work/big
python3 -c '
for i in range(625):
    print(f"""unsigned f{i}(unsigned *v, unsigned n) {{
    unsigned s = {i};
    for (unsigned i = 0; i < n; i++) {{
        s = s * {i * 2 + 3}u + (v[i] ^ s >> {i % 31});
        if (s % {i % 7 + 3} == 0)
            v[i] += s;
    }}
    return s; }}""")' >/work/long.c
for name in ${1//,/ }; do
    case $name in
        python) timed python python_loop ;;
        luajit) timed luajit luajit_loop ;;
        gzip) timed gzip gzip -c /work/big ;;
        gcc) timed gcc compile ;;
        aes) speed aes "-bytes 16384 -evp aes-128-cbc" 1000000000 ;;
        sha256) speed sha256 "-bytes 16384 -evp sha256" 1000000000 ;;
        rsa) speed rsa rsa2048 1000 ;;
    esac
done
