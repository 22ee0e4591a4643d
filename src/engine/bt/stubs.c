/*
 * The generated sequences around translations: the world switch between the monitor's C code
 * and the guest's registers, and the callouts. A callout stores the guest's registers, calls a
 * dispatch function on the monitor's stack, and goes on where that says; vector state stays in
 * its registers unless the function sent it home (dispatch.c).
 *
 * Most callouts try a quick function first (quick.c), before which only the registers that C
 * code may change are stored: half of them, and no flags are restored after it.
 */
#include "engine/bt/bt.h"

#include <string.h>

#include "base/ensure.h"

/* What the System V ABI preserves. */
static const u8 callee_saved[] = {RBX, RBP, R12, R13, R14, R15};

static struct host_mem home(const struct bt *bt, unsigned reg)
{
    return bt_mem(bt, &bt->vcpu->cpu.gpr[reg]);
}

static bool in_register(unsigned reg)
{
    return reg != R10 && reg != R11;
}

/* RSP is not among them: callouts run on another stack. */
static bool is_callee_saved(unsigned reg)
{
    return reg == RBX || reg == RBP || reg >= R12;
}

/* From C: void enter(void). */
static void make_enter(struct bt *bt, struct emit *e, const void *back)
{
    for (unsigned i = 0; i < ARRAY_LEN(callee_saved); i++) {
        unsigned reg = callee_saved[i];
        if (reg >= 8)
            emit_byte(e, 0x41);
        emit_byte(e, 0x50 | (reg & 7));
    }
    /* Callouts call from here: RSP must be a multiple of 16. */
    emit_lea(e, 8, RSP, mem_at(RSP, -8));
    emit_store(e, bt_mem(bt, &bt->hot->host_rsp), RSP);
    emit_load(e, RAX, bt_mem(bt, &bt->hot->resume));
    emit_jump(e, back);
}

/* Back to C. */
static void make_leave(struct emit *e)
{
    emit_lea(e, 8, RSP, mem_at(RSP, 8));
    for (unsigned i = ARRAY_LEN(callee_saved); i--;) {
        unsigned reg = callee_saved[i];
        if (reg >= 8)
            emit_byte(e, 0x41);
        emit_byte(e, 0x58 | (reg & 7));
    }
    emit_byte(e, 0xc3);
}

/* What VEX has in its last byte before the opcode: register `vvvv`, 256 bits wide or 128, and
 * the prefix that it stands for. */
enum vex_prefix { VEX_NONE, VEX_66 };

static u8 vex_last(unsigned vvvv, bool wide, enum vex_prefix prefix)
{
    return (u8)((~vvvv & 15) << 3 | (wide ? 4u : 0u) | prefix);
}

/* vmovaps xmm, gs:[xmm] */
static void put_xmm_load(struct bt *bt, struct emit *e, unsigned reg)
{
    const u8 move[] = {0x65, 0xc5, (u8)((reg < 8 ? 0x80 : 0) | vex_last(0, false, VEX_NONE)),
                       0x28};
    emit_bytes(e, move, sizeof(move));
    emit_modrm(e, reg, bt_mem(bt, &bt_cpu(bt)->fpu.xmm[reg]));
}

/* vinsertf128 ymm, ymm, gs:[ymm_hi], 1 */
static void put_ymm_load(struct bt *bt, struct emit *e, unsigned reg)
{
    const u8 insert[] = {0x65, 0xc4, reg < 8 ? 0xe3 : 0x63, vex_last(reg, true, VEX_66), 0x18};
    emit_bytes(e, insert, sizeof(insert));
    emit_modrm(e, reg, bt_mem(bt, &bt_cpu(bt)->fpu.ymm_hi[reg]));
    emit_byte(e, 1);
}

/*
 * A jump, to be bound, for upper halves that are not all zero. Those that are must not be left
 * loaded: Intel's processors take 70 ns for each change between SSE and VEX instructions as
 * long as they are (SDM vol. 1, 14.3), which is whenever a guest's program has both.
 */
static u8 *put_uppers_test(struct bt *bt, struct emit *e)
{
    u64 *uppers = (u64 *)bt_cpu(bt)->fpu.ymm_hi;
    emit_load(e, RAX, bt_mem(bt, uppers));
    for (unsigned n = 1; n < sizeof(bt_cpu(bt)->fpu.ymm_hi) / sizeof(*uppers); n++)
        emit_rm(e, 8, 0x0b, RAX, bt_mem(bt, &uppers[n])); /* or */
    return emit_jump_if_later(e, CC_NE);
}

/*
 * The vector registers from cpu.fpu; RAX and RDX are lost. x87 registers come with XRSTOR,
 * which takes 100 ns; without them the others are there in a tenth of that.
 */
static void put_vectors_restore(struct bt *bt, struct emit *e)
{
    static const u8 vzeroupper[] = {0xc5, 0xf8, 0x77}, vzeroall[] = {0xc5, 0xfc, 0x77};
    struct host_mem vectors = bt_mem(bt, &bt->hot->vectors);
    emit_compare_memory(e, 1, vectors, VECTORS_HOME);
    u8 *in_place = emit_jump_if_later(e, CC_B);
    u8 *saved = emit_jump_if_later(e, CC_NE);
    emit_const(e, RDX, 0);
    emit_const(e, RAX, XCR0_X87 | XCR0_SSE | XCR0_AVX);
    emit_rm(e, 8, 0x0fae, 5, bt_mem(bt, &bt_cpu(bt)->fpu));
    u8 *restored = emit_jump_later(e);
    emit_bind(e, saved, emit_here(e));
    emit_compare_memory(e, 1, vectors, VECTORS_SAVED_SSE);
    u8 *zero = emit_jump_if_later(e, CC_B);
    for (unsigned reg = 0; reg < 16; reg++)
        put_xmm_load(bt, e, reg);
    u8 *sse = emit_jump_if_later(e, CC_E);
    for (unsigned reg = 0; reg < 16; reg++)
        put_ymm_load(bt, e, reg);
    emit_bind(e, restored, emit_here(e));
    u8 *avx = put_uppers_test(bt, e);
    u8 *clean = emit_jump_later(e);
    emit_bind(e, zero, emit_here(e));
    emit_bytes(e, vzeroall, sizeof(vzeroall));
    emit_bind(e, sse, emit_here(e));
    emit_bind(e, clean, emit_here(e));
    emit_bytes(e, vzeroupper, sizeof(vzeroupper));
    emit_bind(e, avx, emit_here(e));
    emit_rm(e, 4, 0x0fae, 2, bt_mem(bt, &bt_cpu(bt)->fpu.mxcsr));
    emit_store8_imm(e, vectors, VECTORS_IN_PLACE);
    emit_bind(e, in_place, emit_here(e));
}

/* Into the guest at RAX, from a callout or enter; RAX = 0: leave. */
static void make_back(struct bt *bt, struct emit *e)
{
    emit_rr(e, 8, 0x85, RAX, RAX);
    u8 *leave = emit_jump_if_later(e, CC_E);
    emit_store(e, bt_mem(bt, &bt->hot->resume), RAX);
    put_vectors_restore(bt, e);
    emit_load32(e, RAX, bt_mem(bt, &bt->hot->flags));
    emit_flags_from_ax(e);
    for (unsigned reg = 0; reg < 16; reg++) {
        if (in_register(reg))
            emit_load(e, reg, home(bt, reg));
    }
    emit_load(e, R10, bt_mem(bt, &bt->hot->address));
    /* As go_quickly leaves it. */
    emit_load(e, R11, bt_mem(bt, &bt->hot->resume));
    emit_rr(e, 4, 0xff, 4, R11);
    emit_bind(e, leave, emit_here(e));
    make_leave(e);
}

static void save_registers(struct bt *bt, struct emit *e, bool callee)
{
    for (unsigned reg = 0; reg < 16; reg++) {
        if (in_register(reg) && is_callee_saved(reg) == callee)
            emit_store(e, home(bt, reg), reg);
    }
}

/* RAX := function(bt, r11, r10), on the monitor's stack. */
static void call_function(struct bt *bt, struct emit *e, const void *function)
{
    emit_load(e, RSP, bt_mem(bt, &bt->hot->host_rsp));
    emit_const(e, RDI, (u64)bt);
    emit_move(e, RSI, R11);
    emit_move(e, RDX, R10);
    emit_const(e, RAX, (u64)function);
    emit_rr(e, 4, 0xff, 2, RAX);
}

/* To RAX, when a quick function gave it: with what that function did not preserve. */
static void go_quickly(struct bt *bt, struct emit *e)
{
    emit_move(e, R11, RAX);
    for (unsigned reg = 0; reg < 16; reg++) {
        if (in_register(reg) && !is_callee_saved(reg))
            emit_load(e, reg, home(bt, reg));
    }
    emit_load(e, R10, bt_mem(bt, &bt->hot->address));
    emit_rr(e, 4, 0xff, 4, R11);
}

/* A callout to a dispatch function, after the quick one, if any, that may spare it. */
static const void *make_callout(struct bt *bt, struct emit *e, const void *back,
                                const void *quick, const void *function, bool flags_saved)
{
    const void *start = emit_here(e);
    save_registers(bt, e, false);
    if (!flags_saved) {
        emit_flags_to_ax(e);
        emit_store32(e, bt_mem(bt, &bt->hot->flags), RAX);
    }
    emit_rm(e, 8, 0xff, 0, bt_mem(bt, &bt->hot->callouts)); /* inc */
    if (quick) {
        emit_store(e, bt_mem(bt, &bt->hot->argument), R11);
        emit_store(e, bt_mem(bt, &bt->hot->address), R10);
        call_function(bt, e, quick);
        emit_rr(e, 8, 0x85, RAX, RAX);
        u8 *not_quick = emit_jump_if_later(e, CC_E);
        go_quickly(bt, e);
        emit_bind(e, not_quick, emit_here(e));
        emit_load(e, R11, bt_mem(bt, &bt->hot->argument));
        emit_load(e, R10, bt_mem(bt, &bt->hot->address));
    }
    save_registers(bt, e, true);
    call_function(bt, e, function);
    emit_jump(e, back);
    return start;
}

/*
 * Where the target in r10 is not the one that its slot of the first table holds: large programs
 * have thousands of those, which took a callout each time.
 */
static const void *make_second(struct bt *bt, struct emit *e, const struct second *table)
{
    const void *start = emit_here(e);
    emit_move(e, R11, R10);
    emit_shift(e, 8, SHIFT_RIGHT, R11, INDIRECT_BITS);
    emit_rr(e, 4, 0x31, R10, R11); /* xor */
    emit_and_imm(e, R11, SECOND_SLOTS - 1);
    emit_shift(e, 4, SHIFT_LEFT, R11, 1); /* of two words each */
    emit_rm(e, 8, 0x3b, R10, mem_gs_index(R11, bt_mem(bt, &table->rip).disp));
    emit_jump_if(e, CC_NE, bt->stubs.exit_indirect);
    emit_jump_mem(e, mem_gs_index(R11, bt_mem(bt, &table->entry).disp));
    return start;
}

bool stubs_make(struct bt *bt)
{
    struct emit e = {
        .at = bt->memory.write + 64, /* offset 0 means none */
        .end = bt->memory.write + 16384,
        .to_exec = bt->memory.exec - bt->memory.write,
        .gs = bt_gs(bt),
    };
    struct stubs *s = &bt->stubs;
    const void *back = emit_here(&e);
    make_back(bt, &e);
    const void *enter = emit_here(&e);
    memcpy(&s->enter, &enter, sizeof(enter));
    make_enter(bt, &e, back);
    for (unsigned saved = 0; saved < 2; saved++) {
        s->exit_link[saved] = make_callout(bt, &e, back, quick_link, dispatch_link, saved);
        s->exit_cell[saved] = make_callout(bt, &e, back, quick_cell, dispatch_cell, saved);
        s->simulate[saved] = make_callout(bt, &e, back, NULL, dispatch_simulate, saved);
        s->stop[saved] = make_callout(bt, &e, back, NULL, dispatch_stop, saved);
    }
    s->access = make_callout(bt, &e, back, quick_access, dispatch_access, true);
    s->store = make_callout(bt, &e, back, quick_store, dispatch_store, true);
    s->exit_indirect = make_callout(bt, &e, back, quick_indirect, dispatch_indirect, true);
    for (unsigned set = 0; set < TLB_SETS; set++)
        s->second[set] = make_second(bt, &e, bt->hot->second[set]);
    s->string = make_callout(bt, &e, back, quick_string, dispatch_simulate, true);
    s->pause = make_callout(bt, &e, back, quick_pause, dispatch_simulate, true);
    s->verw = make_callout(bt, &e, back, quick_verw, dispatch_simulate, true);
    s->segment = make_callout(bt, &e, back, quick_segment, dispatch_simulate, true);
    s->iretq = make_callout(bt, &e, back, quick_iretq, dispatch_simulate, true);
    s->iretd = make_callout(bt, &e, back, quick_iretd, dispatch_simulate, true);
    s->interrupt = make_callout(bt, &e, back, quick_int, dispatch_simulate, true);
    s->syscall = make_callout(bt, &e, back, quick_syscall, dispatch_simulate, true);
    ensure(!e.full);
    bt->stubs_end = bt_offset(bt, emit_here(&e));
    return true;
}
