# SPDX-License-Identifier: MIT
# cython: overflowcheck=False
# Words of bits and of data wrap and are cut by design; bounds stay checked in the checked build.
"""What port and MMIO dispatch have in common: handlers, and the space they are called from.

A handler is a pair of C function pointers. A Python handler is one too: its functions take the GIL,
catch whatever the Python code raises, keep the first such fault for the machine and answer all ones,
so that a faulty device stops its machine and never unwinds through a guest instruction.
"""

import sys

from cpython.long cimport PyLong_Check
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid

from ..errors import DeviceError, MemoryMapError

cdef extern from "pyemu.h":
    const unsigned PYEMU_ABI_VERSION
    ctypedef struct pyemu_io_handler:
        uint32_t abi_version
        uint32_t size
        void *opaque
        io_read_fn read
        io_write_fn write


def owner_name(owner):
    """How messages call *owner*: a string as it is, a device by its id, anything else by its name or type."""
    if isinstance(owner, str):
        return owner
    return getattr(owner, "id", None) or getattr(owner, "name", None) or type(owner).__name__


cdef class IoHandler:
    """Handlers for a range of ports or memory, called ``read(offset, size)`` and ``write(offset, size, value)``.

    Made by a compiled chip, from a capsule of a compiled plugin, or from Python callables. A missing
    direction counts as not decoded.
    """

    @staticmethod
    cdef IoHandler make(object owner, void *opaque, io_read_fn read_fn, io_write_fn write_fn):
        cdef IoHandler h = IoHandler.__new__(IoHandler)
        h.owner = owner
        h.opaque = opaque
        h.read_fn = read_fn
        h.write_fn = write_fn
        return h

    def __init__(self):
        raise TypeError("use IoHandler.python(), IoHandler.from_capsule() or, in C, IoHandler.make()")

    @staticmethod
    def python(read=None, write=None, owner="python"):
        """A handler that calls Python: ``read(offset, size) -> int`` and ``write(offset, size, value)``.

        Args:
            read: None when nothing can be read there.
            write: None when nothing can be written there.
            owner: a device or a name, for messages.

        Raises:
            MemoryMapError: both are missing, or one cannot be called.
        """
        if read is None and write is None:
            raise MemoryMapError(f"{owner_name(owner)}: a handler needs read or write")
        for function in (read, write):
            if function is not None and not callable(function):
                raise MemoryMapError(f"{owner_name(owner)}: handler {function!r} cannot be called")
        cdef IoHandler h = IoHandler.__new__(IoHandler)
        h.owner = owner
        h.python_read = read
        h.python_write = write
        h.opaque = <void *>h
        if read is not None:
            h.read_fn = _python_read
        if write is not None:
            h.write_fn = _python_write
        return h

    @staticmethod
    def from_capsule(capsule, owner):
        """A handler of a compiled plugin: a capsule ``pyemu.io_handler`` (``pyemu/capi/pyemu.h``).

        Args:
            capsule: kept alive with the handler.
            owner: the device; kept alive too, since the capsule's opaque pointer is its own.

        Raises:
            MemoryMapError: no such capsule, or one made for another interface version.
        """
        if not PyCapsule_IsValid(capsule, b"pyemu.io_handler"):
            raise MemoryMapError(f"{owner_name(owner)}: {capsule!r} is not a capsule pyemu.io_handler")
        cdef pyemu_io_handler *table = <pyemu_io_handler *>PyCapsule_GetPointer(capsule, b"pyemu.io_handler")
        if table.abi_version != PYEMU_ABI_VERSION or table.size < sizeof(pyemu_io_handler):
            raise MemoryMapError(
                f"{owner_name(owner)}: io handler has interface version {table.abi_version} and {table.size} bytes,"
                f" this pyemu needs version {PYEMU_ABI_VERSION} and {sizeof(pyemu_io_handler)} bytes"
            )
        h = IoHandler.make(owner, table.opaque, table.read, table.write)
        h.python_read = capsule
        return h

    @property
    def is_python(self):
        """Whether an access takes the GIL and calls Python."""
        return self.read_fn == _python_read or self.write_fn == _python_write

    # What is mapped: C handlers as they are, Python ones as a copy that knows where to put a fault.
    cdef IoHandler bind(self, Space space):
        if not self.is_python:
            return self
        cdef IoHandler h = IoHandler.python(self.python_read, self.python_write, self.owner)
        h.space = space
        return h

    def __repr__(self):
        return f"<IoHandler {owner_name(self.owner)} {'python' if self.is_python else 'C'}>"


# Cannot fail: every exception of the Python code ends in record().
cdef uint64_t _python_read(void *opaque, uint64_t offset, unsigned size) noexcept nogil:
    with gil:
        return _call_read(<IoHandler>opaque, offset, size)


cdef void _python_write(void *opaque, uint64_t offset, unsigned size, uint64_t value) noexcept nogil:
    with gil:
        _call_write(<IoHandler>opaque, offset, size, value)


# The parameter holds a reference, so the handler outlives a call in which it is unmapped.
cdef uint64_t _call_read(IoHandler handler, uint64_t offset, unsigned size) noexcept:
    try:
        value = handler.python_read(offset, size)
        if not PyLong_Check(value):
            # numpy integers and the like are welcome, floats and None are not.
            if value is None or not hasattr(value, "__index__"):
                raise TypeError(f"read returned {value!r}, not an int")
            value = value.__index__()
        if not 0 <= value <= ones(size):
            raise ValueError(f"read returned {value:#x}, which does not fit {size} bytes")
        return value
    except BaseException as error:
        _record(handler, "read", offset, size, error)
        return ones(size)


cdef void _call_write(IoHandler handler, uint64_t offset, unsigned size, uint64_t value) noexcept:
    try:
        handler.python_write(offset, size, value)
    except BaseException as error:
        _record(handler, "write", offset, size, error)


cdef void _record(IoHandler handler, str verb, uint64_t offset, unsigned size, error) noexcept:
    if handler.space is not None:
        handler.space.record(handler, verb, offset, size, error)
    else:
        report(error, handler)


class _Unraisable:
    """The argument sys.unraisablehook expects."""

    def __init__(self, error, object):
        self.exc_type = type(error)
        self.exc_value = error
        self.exc_traceback = error.__traceback__
        self.err_msg = None
        self.object = object


def report(error, source):
    """Hands an exception that has nowhere to go to ``sys.unraisablehook``; *source* says where it came from."""
    sys.unraisablehook(_Unraisable(error, source))


cdef class Space:
    """What port and memory spaces share.

    Attributes:
        unassigned_reads: reads that no handler answered, one for each access.
        unassigned_writes: writes that were lost.
    """

    def __init__(self, str name):
        self.name = name
        self.limbo = []

    def take_fault(self):
        """The first fault of a Python handler since the last call, as a DeviceError, or None."""
        fault = self.first_fault
        self.first_fault = None
        return fault

    def set_fault_listener(self, listener):
        """Calls ``listener()`` inside the access whose handler failed first, or stops doing so when given None."""
        self.fault_listener = listener

    # Cannot fail: what is raised here goes to sys.unraisablehook.
    cdef void record(self, IoHandler handler, str verb, uint64_t offset, unsigned size, error) noexcept:
        try:
            self.blame(handler.owner, verb, offset, size, error)
        except BaseException as second:
            report(second, self)

    def blame(self, owner, str verb, uint64_t offset, unsigned size, error):
        """Takes *error* as the fault of an access to *owner*, unless there is an earlier one.

        For compiled devices: their handlers cannot raise, but Python code that they call may.

        Args:
            owner: the device.
            verb: ``read`` or ``write``.
            offset, size: of the access.
            error: what was raised.
        """
        if self.first_fault is None:
            name = owner_name(owner)
            fault = DeviceError(
                f"{name}: {verb} of {size} bytes at offset {offset:#x} failed: {type(error).__name__}: {error}",
                device=name, offset=offset,
            )
            fault.__cause__ = error
            self.first_fault = fault
            if self.fault_listener is not None:
                self.fault_listener()

    # Drops what was unmapped during the access; destructors' exceptions are reported by the interpreter.
    cdef void release(self) noexcept nogil:
        with gil:
            dropped = self.limbo
            self.limbo = []
            self.parked = False
            del dropped

    # Keeps *owners* alive at least until the outermost access ends.
    cdef int keep(self, object owners) except -1:
        if self.depth:
            self.limbo.append(owners)
            self.parked = True
        return 0
