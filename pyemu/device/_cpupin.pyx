# SPDX-License-Identifier: MIT
"""The wire from an interrupt controller to a CPU engine's INTR pin, without Python in between."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uint32_t

from pyemu.device._irq cimport IRQLine

from ..errors import EngineError


cdef extern from "pyemu.h":
    enum: PYEMU_ABI_VERSION
    ctypedef struct pyemu_cpu_engine:
        uint32_t abi_version
        uint32_t size
        void *opaque
        void (*set_irq)(void *opaque, int level) noexcept nogil
        void (*kick)(void *opaque) noexcept nogil


# Cannot fail: a call through a table that was checked when the line was made.
cdef void _drive(void *opaque, int n, int level) noexcept nogil:
    (<pyemu_cpu_engine *>opaque).set_irq((<pyemu_cpu_engine *>opaque).opaque, level)


def cpu_interrupt_line(object capsule, object engine) -> IRQLine:
    """The INTR line of *engine*, given its capsule ``pyemu.cpu_engine``.

    Raises:
        EngineError: the capsule's table has another ABI version or is too short.
    """
    cdef pyemu_cpu_engine *table = <pyemu_cpu_engine *>PyCapsule_GetPointer(capsule, b"pyemu.cpu_engine")
    if table.abi_version != PYEMU_ABI_VERSION or table.size < sizeof(pyemu_cpu_engine):
        raise EngineError(
            f"engine {engine.name}: its C table has ABI {table.abi_version}, size {table.size}; "
            f"needed: ABI {PYEMU_ABI_VERSION}, size {sizeof(pyemu_cpu_engine)}"
        )
    return IRQLine.make("cpu.intr", 0, (capsule, engine), table, _drive)
