/* SPDX-License-Identifier: MIT */
/* What a compiled plugin does: an engine's calls into the core, a device and an interrupt controller. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "pyemu.h"

static const pyemu_cpu_host *host_of(PyObject *capsule)
{
    const pyemu_cpu_host *host = PyCapsule_GetPointer(capsule, "pyemu.cpu_host");
    if (host && (host->abi_version != PYEMU_ABI_VERSION || host->size < sizeof *host)) {
        PyErr_SetString(PyExc_RuntimeError, "another interface version");
        return NULL;
    }
    return host;
}

static PyObject *port_in(PyObject *self, PyObject *args)
{
    PyObject *capsule;
    unsigned port, size;
    uint32_t value;
    const pyemu_cpu_host *host;
    (void)self;
    if (!PyArg_ParseTuple(args, "OII", &capsule, &port, &size) || !(host = host_of(capsule)))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    value = host->port_in(host->opaque, port, size);
    Py_END_ALLOW_THREADS
    return PyLong_FromUnsignedLong(value);
}

static PyObject *port_out(PyObject *self, PyObject *args)
{
    PyObject *capsule;
    unsigned port, size, value;
    const pyemu_cpu_host *host;
    (void)self;
    if (!PyArg_ParseTuple(args, "OIII", &capsule, &port, &size, &value) || !(host = host_of(capsule)))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    host->port_out(host->opaque, port, size, value);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *mmio_read(PyObject *self, PyObject *args)
{
    PyObject *capsule;
    unsigned long long gpa, value;
    unsigned size;
    const pyemu_cpu_host *host;
    (void)self;
    if (!PyArg_ParseTuple(args, "OKI", &capsule, &gpa, &size) || !(host = host_of(capsule)))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    value = host->mmio_read(host->opaque, gpa, size);
    Py_END_ALLOW_THREADS
    return PyLong_FromUnsignedLongLong(value);
}

static PyObject *mmio_write(PyObject *self, PyObject *args)
{
    PyObject *capsule;
    unsigned long long gpa, value;
    unsigned size;
    const pyemu_cpu_host *host;
    (void)self;
    if (!PyArg_ParseTuple(args, "OKIK", &capsule, &gpa, &size, &value) || !(host = host_of(capsule)))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    host->mmio_write(host->opaque, gpa, size, value);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *irq_ack(PyObject *self, PyObject *capsule)
{
    const pyemu_cpu_host *host = host_of(capsule);
    int vector;
    (void)self;
    if (!host)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    vector = host->irq_ack(host->opaque);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(vector);
}

static PyObject *clock_ns(PyObject *self, PyObject *capsule)
{
    const pyemu_cpu_host *host = host_of(capsule);
    (void)self;
    return host ? PyLong_FromLongLong(host->clock_ns(host->opaque)) : NULL;
}

/* -- a device: eight bytes that remember ------------------------------------------------------- */

typedef struct {
    pyemu_io_handler table;
    uint8_t data[8];
} latch_device;

static uint64_t latch_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)size;
    return 0xab00 | ((latch_device *)opaque)->data[offset & 7];
}

static void latch_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    (void)size;
    ((latch_device *)opaque)->data[offset & 7] = (uint8_t)value;
}

static void latch_free(PyObject *capsule)
{
    free(PyCapsule_GetPointer(capsule, "pyemu.io_handler"));
}

static PyObject *latch(PyObject *self, PyObject *args)
{
    unsigned version = PYEMU_ABI_VERSION, size = sizeof(pyemu_io_handler);
    latch_device *device;
    (void)self;
    if (!PyArg_ParseTuple(args, "|II", &version, &size))
        return NULL;
    if (!(device = calloc(1, sizeof *device)))
        return PyErr_NoMemory();
    device->table = (pyemu_io_handler){version, size, device, latch_read, latch_write};
    return PyCapsule_New(&device->table, "pyemu.io_handler", latch_free);
}

/* -- an interrupt controller that always answers the same -------------------------------------- */

typedef struct {
    pyemu_irq_ack table;
    int vector;
} controller;

static int controller_ack(void *opaque)
{
    return ((controller *)opaque)->vector;
}

static void controller_free(PyObject *capsule)
{
    free(PyCapsule_GetPointer(capsule, "pyemu.irq_ack"));
}

static PyObject *ack(PyObject *self, PyObject *args)
{
    unsigned version = PYEMU_ABI_VERSION;
    int vector;
    controller *made;
    (void)self;
    if (!PyArg_ParseTuple(args, "i|I", &vector, &version))
        return NULL;
    if (!(made = calloc(1, sizeof *made)))
        return PyErr_NoMemory();
    made->table = (pyemu_irq_ack){version, sizeof made->table, made, controller_ack};
    made->vector = vector;
    return PyCapsule_New(&made->table, "pyemu.irq_ack", controller_free);
}

static PyMethodDef methods[] = {
    {"port_in", port_in, METH_VARARGS, NULL},
    {"port_out", port_out, METH_VARARGS, NULL},
    {"mmio_read", mmio_read, METH_VARARGS, NULL},
    {"mmio_write", mmio_write, METH_VARARGS, NULL},
    {"irq_ack", irq_ack, METH_O, NULL},
    {"clock_ns", clock_ns, METH_O, NULL},
    {"latch", latch, METH_VARARGS, NULL},
    {"ack", ack, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "plugin", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_plugin(void)
{
    return PyModule_Create(&module);
}
