# SPDX-License-Identifier: MIT
cdef class IoHandler:
    @staticmethod
    cdef IoHandler make(object owner, void *opaque, io_read_fn read_fn, io_write_fn write_fn):
        cdef IoHandler h = IoHandler()
        h.owner = owner
        h.opaque = opaque
        h.read_fn = read_fn
        h.write_fn = write_fn
        return h
