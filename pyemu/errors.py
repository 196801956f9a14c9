# SPDX-License-Identifier: MIT
"""The exceptions that pyemu raises on bad input, one class a layer.

Each message is one line that names the thing and its values. Anything else that escapes is a bug.
"""


class PyemuError(Exception):
    """Base of every error a user can cause."""


class ConfigError(PyemuError):
    """A machine description that cannot be built: unknown board, property, device, engine, bad value."""


class PluginError(PyemuError):
    """A plugin that is missing, broken, of another API version, or in conflict with another."""


class MemoryMapError(PyemuError):
    """A port or memory range that does not fit or is claimed twice."""


class DeviceError(PyemuError):
    """A device that failed while the guest was using it; carries the device, the offset and the cause."""

    def __init__(self, message: str, *, device: str = "", offset: int | None = None) -> None:
        super().__init__(message)
        self.device = device
        self.offset = offset


class MigrationError(PyemuError):
    """A migration that cannot start or go on, or a stream or file that is not acceptable.

    ``desc`` is the short text that QMP clients of QEMU know; ``str(error)`` may add values to it.
    """

    def __init__(self, message: str, *, desc: str | None = None) -> None:
        super().__init__(message)
        self.desc = desc if desc is not None else message


class EngineError(PyemuError):
    """A CPU engine that cannot be set up or that failed while running."""


class ControlError(PyemuError):
    """A control command (QMP, qtest) that cannot be carried out; ``error_class`` is QMP's."""

    def __init__(self, message: str, *, error_class: str = "GenericError") -> None:
        super().__init__(message)
        self.error_class = error_class
