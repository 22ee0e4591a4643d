/*
 * A guest program that has a disk read code into the page that it runs: plain functions, and
 * ones with XGETBV, in turn. Prints a line for each that gave something else than it should,
 * and at the end how many there were.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(int argc, char **argv)
{
    int disk = open(argv[1], O_RDONLY | O_DIRECT), blocks = atoi(argv[2]), wrong = 0;
    unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned xcr0, high;
    __asm__("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    for (int i = 0; i < blocks; i++) {
        if (pread(disk, page, PAGE, (off_t)i * PAGE) != PAGE) {
            perror("pread");
            return 1;
        }
        unsigned answer = ((unsigned (*)(void))page)(), expected = i % 2 ? xcr0 : (unsigned)i;
        if (answer != expected)
            printf("block %d gave %x instead of %x\n", i, answer, expected);
        wrong += answer != expected;
    }
    printf("dma done: %d of %d wrong\n", wrong, blocks);
    return 0;
}
