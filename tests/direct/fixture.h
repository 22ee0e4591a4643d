/*
 * A cell by itself, with a few pages of guest memory: what the attacks start from. The page at
 * CODE is executable, DATA writable, FIXED readable only; SECRET is in the guest's memory file
 * but not mapped.
 */
#pragma once

#include <sys/mman.h>

#include "engine/direct/cell.h"
#include "x86/model.h"

#define BASE   0x123456789000ull
#define NARROW 0x23456000ull /* of a narrow cell */
#define CODE   0x400000ull
#define DATA   0x600000ull
#define STACK  0x601000ull /* the end of DATA */
#define FIXED  0x700000ull

enum { CODE_PAGE, DATA_PAGE, FIXED_PAGE, SECRET_PAGE, RAM_PAGES };

/* Places in the code page. */
#define CODE_SYSCALL CODE          /* syscall; jmp . */
#define CODE_INT80   (CODE + 0x10) /* int 0x80; jmp . */
#define CODE_UD2     (CODE + 0x20) /* ud2 */
#define CODE_SPIN    (CODE + 0x30) /* jmp . */
#define CODE_INT3    (CODE + 0x40) /* int3 */
#define CODE_STORE   (CODE + 0x50) /* mov [rdi], rax; int3 */
#define CODE_LOAD    (CODE + 0x60) /* mov rax, [rdi]; int3 */
#define CODE_FILL    (CODE + 0x70) /* rep stosb; syscall */
#define CODE_FORGE   (CODE + 0x80) /* xchg [rdi], eax; jmp . */
#define CODE_CALL    (CODE + 0x90) /* call rbx; int3 */
#define CODE_DIVIDE  (CODE + 0xa0) /* xor ecx, ecx; div ecx */
#define CODE_SIGRET  (CODE + 0xb0) /* mov eax, 15; jmp rbx */
#define CODE_COUNT   (CODE + 0xc0) /* inc qword [rdi]; jmp back */

struct fixture {
    struct zygote zygote;
    struct cell cell;
    struct x86_cpu *cpu;
    struct stop stop;
    u8 *ram;
    int memory;
};

/* Around each cmocka test: *state is a fixture with one cell. */
int fixture_setup(void **state);
int fixture_teardown(void **state);
int fixture_setup_narrow(void **state);
#define CELL_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#define NARROW_TEST(name)                                                                      \
    cmocka_unit_test_setup_teardown(name, fixture_setup_narrow, fixture_teardown)

/* A zygote; then as many cells as wanted, each with its pages mapped. */
void fixture_start(struct fixture *f);
void fixture_finish(struct fixture *f);
void fixture_cell(struct fixture *f);
void fixture_narrow(struct fixture *f);
void fixture_drop(struct fixture *f);

/* Fresh registers: RIP, RSP at STACK, x87 and SSE as after FNINIT. */
void fixture_registers(struct fixture *f, u64 rip);
enum cell_end fixture_run(struct fixture *f, u64 rip);
/* In a narrow cell: fresh registers of 32-bit code, data segments included. */
void fixture_registers32(struct fixture *f);

/* The stub's gadget with these registers; it returns to CODE_INT3. */
enum cell_end fixture_gadget(struct fixture *f, u64 number, const u64 *arguments);

/* An address of the cell's: of a place in the stub, of a field of the control page. */
u64 fixture_stub(const u8 *place);
u64 fixture_control(unsigned field);

/* The first word of DATA is where CODE_COUNT counts, with RDI = DATA: it shows that the cell
 * runs, which on a busy host may take it many milliseconds. */
void fixture_reset_count(struct fixture *f);
void fixture_await_count(struct fixture *f);

/* Kicks the cell from another thread, after `ms` and, if it counts, once it does. Join it. */
#include <pthread.h>
struct kicker {
    struct fixture *fixture;
    unsigned ms;
    bool counts;
    pthread_t thread;
};
void kicker_start(struct kicker *kicker, struct fixture *f, unsigned ms, bool counts);
void kicker_join(struct kicker *kicker);
