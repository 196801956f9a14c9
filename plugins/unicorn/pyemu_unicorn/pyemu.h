/* SPDX-License-Identifier: MIT */
/*
 * The C interface between pyemu's core, CPU engines and compiled devices.
 *
 * Every table begins with abi_version and size. A reader refuses another
 * abi_version and never reads past size, so members may be appended to a table
 * but never moved. Plugins hold a copy of this file; nothing here needs the
 * core at build time.
 *
 * Tables travel in PyCapsules. The capsule's name is given beside each table.
 */
#ifndef PYEMU_H
#define PYEMU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PYEMU_ABI_VERSION 1u

/* An access of 1, 2, 4 or 8 bytes at an offset inside the device's own range.
 * Called on the machine thread without the GIL. */
typedef uint64_t (*pyemu_read_fn)(void *opaque, uint64_t offset, unsigned size);
typedef void (*pyemu_write_fn)(void *opaque, uint64_t offset, unsigned size, uint64_t value);

/* Capsule "pyemu.io_handler": what a compiled device gives the core. */
typedef struct pyemu_io_handler {
    uint32_t abi_version;
    uint32_t size;
    void *opaque;
    pyemu_read_fn read;
    pyemu_write_fn write;
} pyemu_io_handler;

/* Capsule "pyemu.irq_ack": what a compiled interrupt controller gives the
 * core. The acknowledge cycle: returns a vector 0-255. */
typedef struct pyemu_irq_ack {
    uint32_t abi_version;
    uint32_t size;
    void *opaque;
    int (*ack)(void *opaque);
} pyemu_irq_ack;

/* Capsule "pyemu.cpu_host": what the core gives a CPU engine. All functions
 * are called on the machine thread, inside run(), without the GIL. */
typedef struct pyemu_cpu_host {
    uint32_t abi_version;
    uint32_t size;
    void *opaque;
    uint32_t (*port_in)(void *opaque, uint32_t port, unsigned size);
    void (*port_out)(void *opaque, uint32_t port, unsigned size, uint32_t value);
    uint64_t (*mmio_read)(void *opaque, uint64_t gpa, unsigned size);
    void (*mmio_write)(void *opaque, uint64_t gpa, unsigned size, uint64_t value);
    /* The interrupt controller's acknowledge cycle: a vector 0-255. */
    int (*irq_ack)(void *opaque);
    /* Guest time in nanoseconds, the clock that also feeds the timers. */
    int64_t (*clock_ns)(void *opaque);
} pyemu_cpu_host;

/* Capsule "pyemu.cpu_engine": what a CPU engine gives the core. */
typedef struct pyemu_cpu_engine {
    uint32_t abi_version;
    uint32_t size;
    void *opaque;
    /* Level of the interrupt pin; machine thread, possibly inside run(). */
    void (*set_irq)(void *opaque, int level);
    /* Makes run() return soon, at an instruction boundary; any thread, never
     * blocks, idempotent, and not lost when run() has not begun yet. */
    void (*kick)(void *opaque);
} pyemu_cpu_engine;

#ifdef __cplusplus
}
#endif
#endif
