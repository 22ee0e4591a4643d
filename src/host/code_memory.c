/* Doubly mapped code memory, see code_memory.h. */
#include "host/code_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/bits.h"

bool code_memory_map(struct code_memory *code, u64 size, void *near, struct error *err)
{
    size = align_up(size, PAGE_SIZE);
    int fd = memfd_create("doppel-code", MFD_CLOEXEC);
    if (fd < 0)
        return error_errno(err, "cannot create memory for generated code");
    void *write = MAP_FAILED, *exec = MAP_FAILED;
    if (ftruncate(fd, (off_t)size) == 0) {
        write = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        exec = mmap(near, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    close(fd);
    if (write == MAP_FAILED || exec == MAP_FAILED) {
        error_errno(err, "cannot map memory for generated code");
        if (write != MAP_FAILED)
            munmap(write, size);
        if (exec != MAP_FAILED)
            munmap(exec, size);
        return false;
    }
    *code = (struct code_memory){.write = write, .exec = exec, .size = size};
    return true;
}

void code_memory_unmap(struct code_memory *code)
{
    munmap(code->write, code->size);
    munmap((void *)code->exec, code->size);
    *code = (struct code_memory){0};
}
