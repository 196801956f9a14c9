# SPDX-License-Identifier: MIT
"""Board ``via-pc``: host bridge at 0:0.0, a VIA south bridge in slot 7, the PC's core devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pyemu import ConfigError, PCIBus
from pyemu.chips import pc
from pyemu.chips.cmos_bank import CMOSBanks
from pyemu.chips.mpu401 import MPU401, GamePort
from pyemu.chips.smbus import SMBus, memory_modules
from pyemu.chips.usb import USBBus
from pyemu.device import PCIConfigPorts

from .ac97 import ViaAudio
from .bridge import VT82C686A, VT82C686B, VT8231, ViaBridge
from .firmware import SETUP_686, SETUP_8231, Write, perform
from .functions import ViaFunction, ViaModem
from .hostbridge import ViaHostBridge
from .ide import ViaIDE
from .pm import ViaPower
from .uhci import ViaUSB

if TYPE_CHECKING:
    from pyemu import ISAFunction, Machine

SLOT = 7
#: The function of the USB controller with ports 1 and 2.
FIRST_USB = 2
AUDIO = 5


class Model(NamedTuple):
    """What makes one south bridge of the family: its function 0, the revisions of the others, its set-up.

    ``revisions`` are those of functions 1 to 6; ``qemu_revisions`` are what QEMU gives all chips.
    """

    bridge: type[ViaBridge]
    revisions: tuple[int, ...]
    power_id: int
    setup: Sequence[Write]


MODELS = {
    "vt82c686a": Model(VT82C686A, (0x06, 0x06, 0x06, 0x10, 0x12, 0x01), 0x3057, SETUP_686),
    "vt82c686b": Model(VT82C686B, (0x06, 0x1A, 0x1A, 0x40, 0x50, 0x30), 0x3057, SETUP_686),
    "vt8231": Model(VT8231, (0x06, 0x1E, 0x1E, 0x10, 0x40, 0x20), 0x8235, SETUP_8231),
}
QEMU_REVISIONS = (0x06, 0x01, 0x01, 0x40, 0x50, 0x30)


def build(
    machine: Machine,
    *,
    southbridge: str,
    reset_style: str,
    routing: str,
    superio_gate: bool,
    firmware: str,
    wide_access: str,
    vga: bool,
    vgabios: str | None,
    wav: str | None,
    midi: str | None,
    nvram: str | None,
) -> None:
    """Assembles the board."""
    model = MODELS.get(southbridge)
    if model is None:
        raise ConfigError(f"board {machine.board}: no south bridge {southbridge!r}; there are: {', '.join(MODELS)}")
    machine.ports.wide = wide_access
    ram = pc.map_memory(machine)
    pc.map_bios(machine, ram)
    core = pc.add_core(machine, nvram)
    pc.add_reset_control(machine, core.isa)
    pci = PCIBus(machine.ports, machine.memory, machine.clock)
    machine.add_bus(pci)
    machine.add_device(PCIConfigPorts(), pci)
    machine.add_device(ViaHostBridge(addr="0.0"), pci)

    if vga:
        pc.add_vga(machine, core.isa, pci, vgabios)

    bridge = model.bridge(addr=f"{SLOT:x}.0", reset_style=reset_style)
    machine.add_device(bridge, pci)
    functions = _add_functions(machine, pci, core, model, reset_style, wav)
    _add_legacy_audio(machine, core, functions, midi)
    if routing == "auto":
        routing = "fixed" if reset_style == "qemu" else "registers"
    superio = bridge.superio_type(reset_style=reset_style, routing=routing, superio_gate=superio_gate)
    machine.add_device(superio, core.isa)
    for name in superio.function_names:
        function = _superio_function(machine, name)
        superio.attach(name, function)
        machine.add_device(function, core.isa)
    banks = CMOSBanks(nvram=nvram)
    banks.rtc = core.rtc
    machine.add_device(banks, core.isa)
    bridge.wire(core.isa, superio, functions, banks)
    direct_start = machine.kernel is not None and machine.bios is None
    if firmware == "always" or (firmware == "auto" and direct_start):
        machine.on_reset(lambda: perform(model.setup, machine.ports, SLOT))


def _superio_function(machine: Machine, name: str) -> ISAFunction:
    if name == "parallel":
        return pc.parallel_port(machine)
    if name == "floppy":
        return pc.floppy_controller(machine)
    return pc.serial_port(machine, int(name.removeprefix("serial")) - 1)


def _add_legacy_audio(machine: Machine, core: pc.Core, functions: dict[int, ViaFunction], midi: str | None) -> None:
    """The MIDI and the game port, which function 5 places."""
    audio = functions[AUDIO]
    assert isinstance(audio, ViaAudio)
    ports = MPU401(chardev=midi), GamePort()
    audio.attach(*ports)
    for function in ports:
        machine.add_device(function, core.isa)


def _add_functions(
    machine: Machine, pci: PCIBus, core: pc.Core, model: Model, reset_style: str, wav: str | None
) -> dict[int, ViaFunction]:
    functions: dict[int, ViaFunction] = {}
    usb = USBBus(4)
    machine.add_bus(usb)
    types = (ViaIDE, ViaUSB, ViaUSB, ViaPower, ViaAudio, ViaModem)
    revisions = QEMU_REVISIONS if reset_style == "qemu" else model.revisions
    for number, (type_, revision) in enumerate(zip(types, revisions, strict=True), 1):
        options: dict[str, Any] = {"device_id": model.power_id} if type_ is ViaPower else {}
        if type_ is ViaAudio:
            options["wav"] = wav
        function = type_(addr=f"{SLOT:x}.{number}", reset_style=reset_style, revision=revision, **options)
        machine.add_device(function, pci)
        functions[number] = function
        if isinstance(function, ViaIDE):
            channels = [pc.ide_channel(machine, n) for n in range(2)]
            function.attach(*channels)
            for channel in channels:
                machine.add_device(channel, core.isa)
        elif isinstance(function, ViaUSB):
            function.uhci.own_ports(usb, 2 * (number - FIRST_USB))
        elif isinstance(function, ViaPower):
            function.power_off = machine.request_shutdown
            smbus = SMBus()
            machine.add_bus(smbus)
            for eeprom in memory_modules(machine.memory_size):
                machine.add_device(eeprom, smbus)
            function.smbus.bus = smbus
    return functions
