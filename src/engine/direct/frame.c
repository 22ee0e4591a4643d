/* Signal frames, see frame.h. */
#include "engine/direct/frame.h"

#include <signal.h>
#include <string.h>

#include "engine/direct/protocol.h"
#include "x86/native.h"

/* What user code may change in RFLAGS at IOPL 0 (SDM vol. 1, 3.4.3). */
#define USER_FLAGS (FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID)

/* Of these rt_sigreturn does not restore: they stay as they are when the stub calls it. */
#define KEPT_FLAGS (FLAG_NT | FLAG_ID)

/* uc_flags: an XSAVE image; SS is given, and to be taken as it is. */
#define UC_XSTATE 1
#define UC_SS     6
/* sigaltstack: the kernel disarms it in the handler, so a frame never meets another. */
#define SS_AUTODISARM_BIT (1u << 31)

/* The end of the legacy area that software may use: how the kernel knows an XSAVE image. */
struct image_words {
    u32 magic1, extended_size;
    u64 features;
    u32 size;
    u32 padding[7];
};
#define MAGIC1       0x46505853u
#define MAGIC2       0x46505845u
#define IMAGE_WORDS  464
#define IMAGE_OFFSET 1024 /* in the frame's page; a multiple of 64 */

_Static_assert(sizeof(struct frame) == 304 && sizeof(struct frame) <= IMAGE_OFFSET,
               "kernel's layout");
_Static_assert(sizeof(struct x86_fpu) == 832, "the image of x87, SSE and AVX");

const u8 frame_segments[4] = {SEG_DS, SEG_ES, SEG_FS, SEG_GS};

/* The sixteen registers, by their numbers, in a frame. */
#define REGISTERS(f)                                                                           \
    {                                                                                          \
        &(f)->rax, &(f)->rcx, &(f)->rdx, &(f)->rbx, &(f)->rsp, &(f)->rbp, &(f)->rsi,           \
            &(f)->rdi, &(f)->r8, &(f)->r9, &(f)->r10, &(f)->r11, &(f)->r12, &(f)->r13,         \
            &(f)->r14, &(f)->r15                                                               \
    }

/* Upper halves of zeros are left to be initialised: Intel's processors take 70 ns for each
 * change between SSE and VEX instructions as long as they are loaded (SDM vol. 1, 14.3). */
static void write_image(u8 *to, const struct x86_cpu *c)
{
    const struct x86_fpu *fpu = &c->fpu;
    const struct image_words words = {.magic1 = MAGIC1,
                                      .extended_size = sizeof(*fpu) + 4,
                                      .features = XCR0_X87 | XCR0_SSE | XCR0_AVX,
                                      .size = sizeof(*fpu)};
    const u32 magic2 = MAGIC2;
    const u64 present = XCR0_X87 | XCR0_SSE | (native_xinuse(c) & XCR0_AVX);
    memcpy(to, fpu, sizeof(*fpu));
    memcpy(to + offsetof(struct x86_fpu, xstate_bv), &present, sizeof(present));
    memcpy(to + IMAGE_WORDS, &words, sizeof(words));
    memcpy(to + sizeof(*fpu), &magic2, sizeof(magic2));
}

void frame_write(const struct frame_place *place, const struct x86_cpu *c)
{
    u8 *page = place->block + CELL_FRAME_PAGE * PAGE_SIZE;
    struct control *control = (void *)(place->block + CELL_CONTROL_PAGE * PAGE_SIZE);
    struct frame f = {
        .flags = UC_XSTATE | UC_SS,
        .stack_pointer = place->base + CELL_STACK_PAGE * PAGE_SIZE,
        .stack_flags = SS_AUTODISARM_BIT,
        .stack_size = (CELL_TABLE_PAGE - CELL_STACK_PAGE) * PAGE_SIZE,
        .rip = c->rip,
        .rflags = (c->rflags & USER_FLAGS) | FLAG_FIXED | FLAG_IF,
        .cs = c->code_size == 4 ? HOST_CS32 : HOST_CS,
        .ss = HOST_DS,
        .fpu = place->base + CELL_FRAME_PAGE * PAGE_SIZE + IMAGE_OFFSET,
    };
    u64 *const registers[] = REGISTERS(&f);
    for (unsigned i = 0; i < ARRAY_LEN(registers); i++)
        *registers[i] = c->gpr[i];
    memcpy(page, &f, sizeof(f));
    write_image(page + IMAGE_OFFSET, c);
    control->new_flags = FLAG_FIXED | FLAG_IF | (c->rflags & KEPT_FLAGS);
    for (unsigned i = 0; i < ARRAY_LEN(frame_segments); i++)
        control->new_selector[i] = c->seg[frame_segments[i]].sel;
    control->new_fs_base = c->seg[SEG_FS].base;
    control->new_gs_base = c->seg[SEG_GS].base;
}

/* The monitor's address of `size` bytes of the signal stack that the cell names; NULL: they are
 * not there. */
static const u8 *on_stack(const struct frame_place *place, u64 address, u64 size)
{
    u64 first = place->base + CELL_STACK_PAGE * PAGE_SIZE;
    u64 bytes = (CELL_TABLE_PAGE - CELL_STACK_PAGE) * PAGE_SIZE;
    if (address < first || address - first > bytes - size)
        return NULL;
    return place->block + (address - place->base);
}

/* Components that the image says are in their initial configuration (SDM vol. 1, 13.6). */
static void initialize(struct x86_fpu *fpu, u64 present)
{
    if (!(present & XCR0_X87)) {
        fpu->fcw = 0x37f;
        fpu->fsw = fpu->fop = 0;
        fpu->ftw = 0;
        fpu->fip = fpu->fdp = 0;
        memset(fpu->st, 0, sizeof(fpu->st));
    }
    if (!(present & XCR0_SSE))
        memset(fpu->xmm, 0, sizeof(fpu->xmm));
    if (!(present & XCR0_AVX))
        memset(fpu->ymm_hi, 0, sizeof(fpu->ymm_hi));
}

static void take_image(struct x86_fpu *fpu, const u8 *from)
{
    struct x86_fpu image;
    memcpy(&image, from, sizeof(image));
    initialize(&image, image.xstate_bv);
    u32 mask = fpu->mxcsr_mask;
    image.mxcsr &= mask ? mask : 0xffbf;
    image.mxcsr_mask = mask;
    image.reserved0 = 0;
    memset(image.reserved1, 0, sizeof(image.reserved1));
    image.xstate_bv = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    image.xcomp_bv = 0;
    memset(image.header_rest, 0, sizeof(image.header_rest));
    *fpu = image;
}

static u64 canonical_or_zero(u64 address)
{
    return (u64)((s64)(address << 16) >> 16) == address ? address : 0;
}

bool frame_take(const struct frame_place *place, struct x86_cpu *c, struct stop *stop)
{
    struct control control;
    struct frame f;
    u64 info[4];
    memcpy(&control, place->block + CELL_CONTROL_PAGE * PAGE_SIZE, sizeof(control));
    const u8 *frame = on_stack(place, control.context, sizeof(f));
    const u8 *from = on_stack(place, control.info, sizeof(info));
    if (!frame || !from)
        return false;
    memcpy(&f, frame, sizeof(f));
    memcpy(info, from, sizeof(info));
    const u8 *image = on_stack(place, f.fpu, sizeof(struct x86_fpu));
    if (!image)
        return false;
    take_image(&c->fpu, image);
    const u64 *const registers[] = REGISTERS(&f);
    for (unsigned i = 0; i < ARRAY_LEN(registers); i++)
        c->gpr[i] = *registers[i];
    c->rip = f.rip;
    c->rflags = (c->rflags & ~USER_FLAGS) | (f.rflags & USER_FLAGS);
    c->seg[SEG_FS].base = canonical_or_zero(control.fs_base);
    c->seg[SEG_GS].base = canonical_or_zero(control.gs_base);
    *stop = (struct stop){
        .signal = (int)control.signal,
        .code = (int)info[1],
        .trap = f.trap,
        .error = f.error,
        .cr2 = f.cr2,
        .call_address = info[2],
        .cycles = control.stopped - control.started,
        .cs = f.cs,
        .ss = f.ss,
    };
    memcpy(stop->selector, control.selector, sizeof(stop->selector));
    return true;
}
