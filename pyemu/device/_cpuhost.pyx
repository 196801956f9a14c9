# SPDX-License-Identifier: MIT
"""The table of C functions through which a CPU engine reaches the machine."""

cimport cython
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t

from pyemu.device._clock cimport Clock
from pyemu.memory._dispatch cimport IoHandler
from pyemu.memory._mmio cimport FlatSpace
from pyemu.memory._ports cimport PortSpace

from ..errors import EngineError

cdef extern from "pyemu.h":
    const unsigned PYEMU_ABI_VERSION
    ctypedef struct pyemu_irq_ack:
        uint32_t abi_version
        uint32_t size
        void *opaque
        int (*ack)(void *opaque) noexcept nogil
    ctypedef struct pyemu_cpu_host:
        uint32_t abi_version
        uint32_t size
        void *opaque
        uint32_t (*port_in)(void *opaque, uint32_t port, unsigned size) noexcept nogil
        void (*port_out)(void *opaque, uint32_t port, unsigned size, uint32_t value) noexcept nogil
        uint64_t (*mmio_read)(void *opaque, uint64_t gpa, unsigned size) noexcept nogil
        void (*mmio_write)(void *opaque, uint64_t gpa, unsigned size, uint64_t value) noexcept nogil
        int (*irq_ack)(void *opaque) noexcept nogil
        int64_t (*clock_ns)(void *opaque) noexcept nogil

# What a controller answers when no interrupt is pending any more: the last line of the first 8259.
cdef enum:
    SPURIOUS = 0xff


@cython.final
@cython.no_gc_clear
cdef class _CpuHost:
    """Everything the table points to; lives as long as its capsule."""
    cdef pyemu_cpu_host table
    cdef PortSpace ports
    cdef FlatSpace memory
    cdef Clock clock
    cdef object ack
    cdef IoHandler blame
    cdef pyemu_irq_ack *ack_table


# None of these can fail: they pass the access on to functions that cannot.
cdef uint32_t _port_in(void *opaque, uint32_t port, unsigned size) noexcept nogil:
    return (<_CpuHost>opaque).ports.c_in(port, size)


cdef void _port_out(void *opaque, uint32_t port, unsigned size, uint32_t value) noexcept nogil:
    (<_CpuHost>opaque).ports.c_out(port, size, value)


cdef uint64_t _mmio_read(void *opaque, uint64_t gpa, unsigned size) noexcept nogil:
    return (<_CpuHost>opaque).memory.c_read(gpa, size)


cdef void _mmio_write(void *opaque, uint64_t gpa, unsigned size, uint64_t value) noexcept nogil:
    (<_CpuHost>opaque).memory.c_write(gpa, size, value)


cdef int64_t _clock_ns(void *opaque) noexcept nogil:
    return (<_CpuHost>opaque).clock.now()


cdef int _irq_ack(void *opaque) noexcept nogil:
    cdef pyemu_irq_ack *table = (<_CpuHost>opaque).ack_table
    if table != NULL:
        return table.ack(table.opaque) & 0xff
    with gil:
        return _python_ack(<_CpuHost>opaque)


# Cannot fail: what the callable raises is a fault of the machine, like that of a port handler.
cdef int _python_ack(_CpuHost host) noexcept:
    try:
        vector = host.ack()
        if not 0 <= vector <= 0xff:
            raise ValueError(f"interrupt vector {vector} is not between 0 and 255")
        return vector
    except BaseException as error:
        host.ports.record(host.blame, "acknowledge", 0, 1, error)
        return SPURIOUS


cdef void _drop(object capsule) noexcept:
    Py_DECREF(<_CpuHost>PyCapsule_GetContext(capsule))


def make_cpu_host(PortSpace ports not None, FlatSpace memory not None, Clock clock not None, irq_ack):
    """The capsule ``pyemu.cpu_host`` of a machine (``pyemu/capi/pyemu.h``). It keeps all four alive.

    Args:
        ports: the port space.
        memory: what the engine sees as MMIO.
        clock: guest time.
        irq_ack: a capsule ``pyemu.irq_ack``, or a callable that returns the vector 0 to 255. A callable
            that fails counts as a fault of the port space.

    Raises:
        EngineError: *irq_ack* is neither, or made for another interface version.
    """
    cdef _CpuHost host = _CpuHost.__new__(_CpuHost)
    host.ports = ports
    host.memory = memory
    host.clock = clock
    host.ack = irq_ack
    if PyCapsule_IsValid(irq_ack, b"pyemu.irq_ack"):
        host.ack_table = <pyemu_irq_ack *>PyCapsule_GetPointer(irq_ack, b"pyemu.irq_ack")
        if host.ack_table.abi_version != PYEMU_ABI_VERSION or host.ack_table.size < sizeof(pyemu_irq_ack):
            raise EngineError(
                f"interrupt acknowledge table has interface version {host.ack_table.abi_version} and"
                f" {host.ack_table.size} bytes, this pyemu needs version {PYEMU_ABI_VERSION}"
                f" and {sizeof(pyemu_irq_ack)} bytes"
            )
    elif callable(irq_ack):
        host.blame = IoHandler.python(irq_ack, None, "interrupt controller")
    else:
        raise EngineError(f"{irq_ack!r} is neither a capsule pyemu.irq_ack nor callable")
    host.table.abi_version = PYEMU_ABI_VERSION
    host.table.size = sizeof(pyemu_cpu_host)
    host.table.opaque = <void *>host
    host.table.port_in = _port_in
    host.table.port_out = _port_out
    host.table.mmio_read = _mmio_read
    host.table.mmio_write = _mmio_write
    host.table.irq_ack = _irq_ack
    host.table.clock_ns = _clock_ns
    capsule = PyCapsule_New(&host.table, b"pyemu.cpu_host", _drop)
    # From here on the capsule owns a reference, which _drop gives back.
    Py_INCREF(host)
    PyCapsule_SetContext(capsule, <void *>host)
    return capsule
