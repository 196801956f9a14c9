# SPDX-License-Identifier: MIT
"""PCI function 4: power management block, SMBus host, APM ports.

Its port blocks are not placed by base registers but by registers of its own, each with an enable
bit elsewhere; they follow at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pyemu import PortioList, Timer, vmstate
from pyemu.chips.superio import LOWEST_BASE, legal_irq
from pyemu.device import VMState, pci_state
from pyemu.device.properties import Property

from .functions import REG_STATUS, STATUS_W1C, ViaFunction
from .registers import Block, touches

REG_CONTROL, REG_SCI, REG_PM_BASE, REG_SMBUS_BASE, REG_SMBUS_CONTROL = 0x41, 0x42, 0x48, 0x90, 0xD2
REG_CLASS, REG_CLASS_WRITE = 0x09, 0x61
PM_DECODES, PM_TIMER_32_BITS, SMBUS_DECODES = 0x80, 0x08, 0x01
PM_BASE_MASK, SMBUS_BASE_MASK, MONITOR_BASE_MASK = 0xFF80, 0xFFF0, 0xFF80

PM1_STATUS, PM1_ENABLE, PM1_CONTROL, PM_TIMER = 0x00, 0x02, 0x04, 0x08
PM_GLOBAL_STATUS, PM_GLOBAL_ENABLE, PM_GLOBAL_CONTROL, PM_SMI_COMMAND = 0x28, 0x2A, 0x2C, 0x2F
PM1_EVENTS = 0x0721  # timer, global, power button, sleep button, RTC
PM1_TIMER = 0x0001
PM1_SCI = 0x0001
PM1_SLEEP, PM1_SLEEP_TYPE, SOFT_OFF = 0x2000, 0x1C00, 0x0800
TIMER_HZ = 3579545
NS = 1_000_000_000
#: Written to the SMI command port these switch ACPI on and off; real firmware's SMI handler obeys them.
ACPI_ON, ACPI_OFF = 0xF1, 0xF0

SMB_STATUS, SMB_CONTROL, SMB_BLOCK_DATA = 0x0, 0x2, 0x7
SMB_START, SMB_DEVICE_ERROR = 0x40, 0x04
SMB_BLOCK = 32
APM_BASE = 0xB2


class ViaPower(ViaFunction):
    """Power management and SMBus.

    Attributes:
        power_off: called when the guest enters soft-off; set by the board.
    """

    type_name = "via-pm"
    class_code = 0x068000
    properties = (*ViaFunction.properties, Property("device-id", "int", 0x3057, "device id register", 0, 0xFFFF))
    volatile: ClassVar[frozenset[str]] = ViaFunction.volatile | frozenset(
        ("power_off", "pm_ports", "smbus_ports", "apm_ports", "alarm")
    )
    vmstate: ClassVar[VMState] = pci_state(
        "via-pm",
        vmstate.buffer("pm.data", 128),
        vmstate.buffer("smbus.data", 16),
        vmstate.buffer("apm.data", 2),
        vmstate.buffer("block", SMB_BLOCK),
        vmstate.uint8("block_index", limit=SMB_BLOCK - 1),
        vmstate.uint64("timer_epoch"),
    )

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        qemu = self.reset_style == "qemu"
        self.define(REG_STATUS, 2, 0x0280, w1c=STATUS_W1C)
        self.define(0x40, 1, 0x00 if qemu else 0x20, wmask=0xFF)
        self.define(REG_SCI, 1, 0x00 if qemu else 0x50, wmask=0xFF)
        self.define(REG_PM_BASE, 4, 1, wmask=PM_BASE_MASK)
        self.define(REG_SMBUS_BASE, 4, 1, wmask=SMBUS_BASE_MASK)
        self.define(0x70, 4, 1, wmask=MONITOR_BASE_MASK)
        self.define(REG_SMBUS_CONTROL, 1, wmask=0x0F)
        self.power_off: Callable[[], None] | None = None
        self.block = bytearray(SMB_BLOCK)
        self.block_index = 0
        self.timer_epoch = 0
        self.alarm: Timer | None = None
        self.pm, self.smbus, self.apm = Block(128), Block(16), Block(2)
        self.pm.define(PM1_STATUS, 2, w1c=0x8F31)
        self.pm.define(PM1_ENABLE, 2, wmask=PM1_EVENTS)
        self.pm.define(PM1_CONTROL, 2, wmask=PM1_SLEEP_TYPE | 0x0003)
        self.pm.define(PM_GLOBAL_STATUS, 2, w1c=0xFFFF)
        self.pm.define(PM_GLOBAL_ENABLE, 2, wmask=0xFFFF)
        self.pm.define(PM_GLOBAL_CONTROL, 2, wmask=0xFFFF)
        self.pm.define(PM_SMI_COMMAND, 1, wmask=0xFF)
        self.smbus.define(SMB_STATUS, 1, w1c=0x1E)
        self.smbus.define(SMB_CONTROL, 1, wmask=0x3F)
        for offset in (3, 4, 5, 6, 8, 9):
            self.smbus.define(offset, 1, wmask=0xFF)
        self.smbus.define(0xA, 2, wmask=0xFFFF)
        self.apm.define(0, 2, wmask=0xFFFF)
        self.pm_ports = PortioList(self, self.pm.table(self._pm_read, self._pm_write), f"{self.type_name} registers")
        self.smbus_ports = PortioList(self, self.smbus.table(self._smb_read, self._smb_write), f"{self.type_name} smbus")
        self.apm_ports = PortioList(self, self.apm.table(write=self._apm_write)[:2], f"{self.type_name} apm")

    # -- life -------------------------------------------------------------------------------------

    def realize(self) -> None:
        super().realize()
        self.alarm = self.bus.clock.timer(self._update_sci, "pm timer")
        self.pm_ports.add(self.bus.ports, 0, enabled=False)
        self.smbus_ports.add(self.bus.ports, 0, enabled=False)
        self.apm_ports.add(self.bus.ports, APM_BASE)

    def unrealize(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
            for ports in (self.pm_ports, self.smbus_ports, self.apm_ports):
                ports.remove()
            self.alarm = None
        super().unrealize()

    def reset(self) -> None:
        for registers in (self.pm, self.smbus, self.apm):
            registers.reset()
        self.block[:] = bytes(SMB_BLOCK)
        self.block_index = 0
        self.timer_epoch = self._ticks() >> self._timer_bits() - 1
        super().reset()
        self._update_sci()

    def post_load(self, version: int) -> None:
        # Software may have changed the class code, which the check of the identity does not expect.
        end = REG_CLASS + 3
        loaded = self.config[REG_CLASS:end]
        self.config[REG_CLASS:end] = self.config_reset[REG_CLASS:end]
        super().post_load(version)
        self.config[REG_CLASS:end] = loaded
        self._update_sci()

    def config_write(self, register: int, size: int, value: int) -> None:
        super().config_write(register, size, value)
        if not self.hidden:
            for at in range(max(register, REG_CLASS_WRITE), min(register + size, REG_CLASS_WRITE + 3)):
                self.config[REG_CLASS + at - REG_CLASS_WRITE] = self.config[at]

    # -- placement --------------------------------------------------------------------------------

    def interrupt_line(self) -> int | None:
        return legal_irq(self.config[REG_SCI] & 0x0F)

    def follow(self) -> None:
        super().follow()
        if self.alarm is None:
            return
        pm = self.config[REG_CONTROL] & PM_DECODES
        smbus = self.config[REG_SMBUS_CONTROL] & SMBUS_DECODES
        with self.bus.ports.transaction():
            self._place(self.pm_ports, REG_PM_BASE, PM_BASE_MASK, bool(pm))
            self._place(self.smbus_ports, REG_SMBUS_BASE, SMBUS_BASE_MASK, bool(smbus))

    def _place(self, ports: PortioList, register: int, mask: int, enabled: bool) -> None:
        base = int.from_bytes(self.config[register : register + 2], "little") & mask
        if enabled and base < LOWEST_BASE:
            self.warn_once(f"{ports.name} {base:x}", "%s: base 0x%x is below 0x%x: not decoded", ports.name, base, LOWEST_BASE)
            enabled = False
        if not enabled:
            ports.set_enabled(False)
        if ports.address != base:
            ports.set_address(base)
        ports.set_enabled(enabled)

    # -- power management block -------------------------------------------------------------------

    def _timer_bits(self) -> int:
        return 32 if self.config[REG_CONTROL] & PM_TIMER_32_BITS else 24

    def _ticks(self) -> int:
        return self.bus.clock.now_ns * TIMER_HZ // NS

    def _update_sci(self) -> None:
        """Recomputes the timer status, the interrupt and the time of the next change of the timer's top bit."""
        if self.alarm is None:
            return
        half = self._timer_bits() - 1
        now = self._ticks() >> half
        status = self.pm.get(PM1_STATUS, 2)
        if now != self.timer_epoch:
            self.timer_epoch = now
            status |= PM1_TIMER
            self.pm.put(PM1_STATUS, 2, status)
        enabled = self.pm.get(PM1_ENABLE, 2)
        sci = self.pm.get(PM1_CONTROL, 2) & PM1_SCI
        self.irq_out.set_level(1 if sci and status & enabled & PM1_EVENTS else 0)
        if sci and enabled & PM1_TIMER and not status & PM1_TIMER:
            self.alarm.arm(-(-((now + 1) << half) * NS // TIMER_HZ))
        else:
            self.alarm.cancel()

    def _pm_read(self, offset: int, size: int) -> int:
        if touches(offset, size, PM_TIMER, 4):
            self.pm.put(PM_TIMER, 4, self._ticks() & (1 << self._timer_bits()) - 1)
        if touches(offset, size, PM1_STATUS, 2):
            self._update_sci()
        return self.pm.get(offset, size)

    def _pm_write(self, offset: int, size: int, value: int) -> None:
        self._update_sci()
        self.pm.write(offset, size, value)
        if touches(offset, size, PM_SMI_COMMAND):
            self._smi_command(self.pm.data[PM_SMI_COMMAND])
        at = PM1_CONTROL + 1 - offset
        if 0 <= at < size and value >> 8 * at & PM1_SLEEP >> 8:
            self._sleep(self.pm.get(PM1_CONTROL, 2) & PM1_SLEEP_TYPE)
        self._update_sci()

    def _sleep(self, type: int) -> None:
        if type == SOFT_OFF and self.power_off is not None:
            self.power_off()
        else:
            self.warn_once(f"sleep {type:x}", "sleep type %d is not modelled", type >> 10)

    def _smi_command(self, command: int) -> None:
        control = self.pm.get(PM1_CONTROL, 2)
        if command == ACPI_ON:
            self.pm.put(PM1_CONTROL, 2, control | PM1_SCI)
        elif command == ACPI_OFF:
            self.pm.put(PM1_CONTROL, 2, control & ~PM1_SCI)

    def _apm_write(self, offset: int, size: int, value: int) -> None:
        self.apm.write(offset, size, value)
        if offset == 0:
            self._smi_command(self.apm.data[0])
            self._update_sci()

    # -- SMBus ------------------------------------------------------------------------------------

    def _smb_read(self, offset: int, size: int) -> int:
        if touches(offset, size, SMB_CONTROL):
            self.block_index = 0
        if touches(offset, size, SMB_BLOCK_DATA):
            self.smbus.put(SMB_BLOCK_DATA, 1, self.block[self.block_index])
            self.block_index = (self.block_index + 1) % SMB_BLOCK
        return self.smbus.get(offset, size)

    def _smb_write(self, offset: int, size: int, value: int) -> None:
        self.smbus.write(offset, size, value)
        if touches(offset, size, SMB_BLOCK_DATA):
            self.block[self.block_index] = value >> 8 * (SMB_BLOCK_DATA - offset) & 0xFF
            self.block_index = (self.block_index + 1) % SMB_BLOCK
        if touches(offset, size, SMB_CONTROL) and value >> 8 * (SMB_CONTROL - offset) & SMB_START:
            # Nothing is on the bus: the address is not acknowledged.
            self.smbus.put(SMB_STATUS, 1, self.smbus.data[SMB_STATUS] | SMB_DEVICE_ERROR)
