# SPDX-License-Identifier: MIT
"""PCI function 4: power management block, SMBus host, hardware monitor, APM ports.

Its port blocks are not placed by base registers but by registers of its own, each with an enable
bit elsewhere; they follow at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pyemu import IRQOut, PortioList, Timer, vmstate
from pyemu.chips.superio import LOWEST_BASE, legal_irq
from pyemu.device import Register, RegisterBlock, RegisterTable, VMState, block_field, pci_state, touches
from pyemu.device.properties import Property

from .functions import REG_STATUS, STATUS_W1C, ViaFunction
from .monitor import MONITOR, HardwareMonitor
from .smbus import SMBUS, SMBusHost

REG_CONTROL, REG_SCI, REG_PM_BASE, REG_SMBUS_BASE, REG_SMBUS_CONTROL = 0x41, 0x42, 0x48, 0x90, 0xD2
REG_MONITOR_BASE, REG_MONITOR_CONTROL = 0x70, 0x74
REG_CLASS, REG_CLASS_WRITE = 0x09, 0x61
PM_DECODES, PM_TIMER_32_BITS, SMBUS_DECODES, MONITOR_DECODES = 0x80, 0x08, 0x01, 0x01
PM_BASE_MASK, SMBUS_BASE_MASK, MONITOR_BASE_MASK = 0xFF80, 0xFFF0, 0xFF80
#: The one choice of register D2's interrupt select that is a line and not a system management interrupt.
SMBUS_SELECT, SMBUS_SELECT_LINE, SMBUS_LINE = 0x0E, 0x08, 9

PM1_STATUS, PM1_ENABLE, PM1_CONTROL, PM_TIMER = 0x00, 0x02, 0x04, 0x08
PM_GLOBAL_STATUS, PM_GLOBAL_ENABLE, PM_GLOBAL_CONTROL, PM_SMI_COMMAND = 0x28, 0x2A, 0x2C, 0x2F
PM1_EVENTS = 0x0721  # timer, global, power button, sleep button, RTC
PM1_TIMER, PM1_POWER_BUTTON = 0x0001, 0x0100
PM1_SCI = 0x0001
PM1_SLEEP, PM1_SLEEP_TYPE, SOFT_OFF = 0x2000, 0x1C00, 0x0800
TIMER_HZ = 3579545
NS = 1_000_000_000
#: Written to the SMI command port these switch ACPI on and off; real firmware's SMI handler obeys them.
ACPI_ON, ACPI_OFF = 0xF1, 0xF0

APM_BASE = 0xB2

PM = RegisterTable(
    (
        Register(PM1_STATUS, "PM1 status", 0, 0, size=2, clear=0x8F31, effect="0 timer, 5 global, 8 power button, 15 wake"),
        Register(PM1_ENABLE, "PM1 enable", 0, PM1_EVENTS, size=2, effect="which events are an SCI"),
        Register(PM1_CONTROL, "PM1 control", 0, PM1_SLEEP_TYPE | 0x0003, size=2, effect="0 SCI on, 12-10 sleep type, 13 sleep"),
        Register(PM_TIMER, "PM timer", 0, 0, size=4, effect="counts at 3.579545 MHz, 24 or 32 bits"),
        Register(PM_GLOBAL_STATUS, "global status", 0, 0, size=2, clear=0xFFFF),
        Register(PM_GLOBAL_ENABLE, "global enable", size=2),
        Register(PM_GLOBAL_CONTROL, "global control", size=2),
        Register(PM_SMI_COMMAND, "SMI command", effect="F1 switches ACPI on, F0 off"),
    ),
    name="power management", size=128, attribute="pm",
)  # fmt: skip
APM = RegisterTable(
    (Register(0, "APM command", effect="as the SMI command"), Register(1, "APM status")), name="APM", size=2, attribute="apm"
)


class ViaPower(ViaFunction):
    """Power management, SMBus and hardware monitor.

    Attributes:
        power_off: called when the guest enters soft-off; set by the board.
    """

    type_name = "via-pm"
    class_code = 0x068000
    properties = (
        *ViaFunction.properties,
        Property("device-id", "int", 0x3057, "device id register", 0, 0xFFFF),
        *(Property(f"temperature{n}", "int", t, "degrees Celsius", -40, 125) for n, t in ((1, 45), (2, 35), (3, 30))),
        *(Property(f"fan{n}", "int", 3000, "revolutions a minute", 0, 100_000) for n in (1, 2)),
    )
    config_registers = (
        Register(REG_STATUS, "status", 0x0280, 0, size=2, clear=STATUS_W1C),
        Register(0x40, "general configuration", 0x20),
        Register(REG_CONTROL, "general control", effect="bit 7 shows the power management block, bit 3 widens its timer"),
        Register(REG_SCI, "SCI line", 0x50, effect="3-0: the ISA line of the SCI"),
        Register(REG_PM_BASE, "power management base", 1, PM_BASE_MASK, size=4, effect="moves the block at once"),
        Register(REG_CLASS_WRITE, "class code write path", size=3, effect="changes the class code"),
        Register(REG_MONITOR_BASE, "monitor base", 1, MONITOR_BASE_MASK, size=4, effect="moves the hardware monitor"),
        Register(REG_MONITOR_CONTROL, "monitor control", effect="bit 0 shows the hardware monitor"),
        Register(REG_SMBUS_BASE, "SMBus base", 1, SMBUS_BASE_MASK, size=4, effect="moves the SMBus host at once"),
        Register(REG_SMBUS_CONTROL, "SMBus control", 0, 0x0F, effect="bit 0 shows the SMBus host, 3-1 choose its interrupt"),
    )
    register_tables = (PM, SMBUS, MONITOR, APM)
    volatile: ClassVar[frozenset[str]] = ViaFunction.volatile | frozenset(
        ("power_off", "pm_ports", "smbus_ports", "monitor_ports", "apm_ports", "alarm", "smbus_irq")
    )
    vmstate: ClassVar[VMState] = pci_state(
        "via-pm",
        block_field("pm", PM),
        vmstate.nested("smbus", SMBusHost.vmstate),
        vmstate.nested("monitor", HardwareMonitor.vmstate),
        block_field("apm", APM),
        vmstate.uint64("timer_epoch"),
    )

    def __init__(self, **properties: Any) -> None:
        super().__init__(**properties)
        if self.reset_style == "qemu":
            self.define(0x40, 1, 0x00, wmask=0xFF)
            self.define(REG_SCI, 1, 0x00, wmask=0xFF)
        self.power_off: Callable[[], None] | None = None
        self.timer_epoch = 0
        self.alarm: Timer | None = None
        self.smbus_irq = IRQOut(f"{self.type_name}.smbus")
        self.pm, self.apm = RegisterBlock(PM, self), RegisterBlock(APM, self)
        self.smbus = SMBusHost(self)
        temperatures = [getattr(self, f"temperature{n}") for n in (1, 2, 3)]
        self.monitor = HardwareMonitor(self, temperatures, [getattr(self, f"fan{n}") for n in (1, 2)])
        self.pm_ports = PortioList(self, self.pm.ports(self._pm_read, self._pm_write), f"{self.type_name} registers")
        smbus = self.smbus.registers.ports(self.smbus.read, self._smbus_write)
        self.smbus_ports = PortioList(self, smbus, f"{self.type_name} smbus")
        monitor = self.monitor.registers.ports(self.monitor.read, self.monitor.write)
        self.monitor_ports = PortioList(self, monitor, f"{self.type_name} monitor")
        self.apm_ports = PortioList(self, self.apm.ports(write=self._apm_write), f"{self.type_name} apm")

    # -- life -------------------------------------------------------------------------------------

    def realize(self) -> None:
        super().realize()
        self.alarm = self.bus.clock.timer(self._update_sci, "pm timer")
        self.pm_ports.add(self.bus.ports, 0, enabled=False)
        self.smbus_ports.add(self.bus.ports, 0, enabled=False)
        self.monitor_ports.add(self.bus.ports, 0, enabled=False)
        self.apm_ports.add(self.bus.ports, APM_BASE)

    def unrealize(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
            for ports in (self.pm_ports, self.smbus_ports, self.monitor_ports, self.apm_ports):
                ports.remove()
            self.alarm = None
        self.smbus_irq.connect(None)
        super().unrealize()

    def reset(self) -> None:
        for part in (self.pm, self.smbus, self.monitor, self.apm):
            part.reset()
        self.timer_epoch = self._ticks() >> self._timer_bits() - 1
        super().reset()
        self._update_sci()
        self._drive_smbus()

    def post_load(self, version: int) -> None:
        # Software may have changed the class code, which the check of the identity does not expect.
        end = REG_CLASS + 3
        loaded = self.config[REG_CLASS:end]
        self.config[REG_CLASS:end] = self.config_reset[REG_CLASS:end]
        super().post_load(version)
        self.config[REG_CLASS:end] = loaded
        self._update_sci()
        self._drive_smbus()

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
        control = self.config[REG_SMBUS_CONTROL]
        monitor = self.config[REG_MONITOR_CONTROL] & MONITOR_DECODES
        with self.bus.ports.transaction():
            self._place(self.pm_ports, REG_PM_BASE, PM_BASE_MASK, bool(pm))
            self._place(self.smbus_ports, REG_SMBUS_BASE, SMBUS_BASE_MASK, bool(control & SMBUS_DECODES))
            self._place(self.monitor_ports, REG_MONITOR_BASE, MONITOR_BASE_MASK, bool(monitor))
        line = SMBUS_LINE if control & SMBUS_SELECT == SMBUS_SELECT_LINE and not self.hidden else None
        self.smbus_irq.connect(self.isa.irq_line(line) if self.isa is not None else None)

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

    def press_power_button(self) -> None:
        """An event of the power button, which the guest may have made an interrupt."""
        self.pm.put(PM1_STATUS, 2, self.pm.get(PM1_STATUS, 2) | PM1_POWER_BUTTON)
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

    def _smbus_write(self, offset: int, size: int, value: int) -> None:
        self.smbus.write(offset, size, value)
        self._drive_smbus()

    def _drive_smbus(self) -> None:
        self.smbus_irq.set_level(1 if self.smbus.interrupt else 0)
