# SPDX-License-Identifier: MIT
"""The hardware monitor of PCI function 4: temperatures, fans, voltages, their limits and alarms.

Temperatures and fan speeds are what the properties say. A temperature reads as a ten-bit number that
falls out of a divider of a 10 kOhm NTC thermistor (B = 3435 K) and a resistor, which is within a few
degrees of the tables in drivers for the chip. Voltages read as their nominal values.
"""

from __future__ import annotations

import math
from typing import ClassVar

from pyemu import Device, VMState
from pyemu.device import Register, RegisterBlock, RegisterTable, block_field, touches

MONITOR_SIZE = 128
CONFIG, ALARMS_1, ALARMS_2, FAN_DIVISORS, LOW_BITS_1, LOW_BITS_2 = 0x40, 0x41, 0x42, 0x47, 0x4B, 0x49
START = 0x01
VOLTAGES, FANS = 0x22, 0x29
#: Reading, upper limit and hysteresis of the three temperatures.
TEMPERATURES = ((0x20, 0x39, 0x3A), (0x21, 0x3D, 0x3E), (0x1F, 0x1D, 0x1E))
VOLTAGE_LIMITS, FAN_LIMITS = 0x2B, 0x3B

#: Readings of 2.0, 2.5, 3.3, 5 and 12 V at the scale of their inputs.
NOMINAL_VOLTAGES = (163, 205, 203, 197, 195)
#: A fan's reading counts a clock of this many periods a minute between two of its pulses.
FAN_CLOCK = 1_350_000

_B, _R25, _DIVIDER, _KELVIN = 3435.0, 10_000.0, 18_600.0, 273.15

#: Alarm bits of the voltages, fans and temperatures, in a word of both alarm registers.
_VOLTAGE_ALARMS, _FAN_ALARMS, _TEMPERATURE_ALARMS = (0, 1, 2, 3, 8), (6, 7), (4, 11, 15)

MONITOR = RegisterTable(
    (
        *(Register(at, f"temperature {n} {what}", 0xFF if what == "limit" else 0, 0 if what == "reading" else 0xFF)
          for n, row in enumerate(TEMPERATURES, 1) for at, what in zip(row, ("reading", "limit", "hysteresis"), strict=True)),
        *(Register(VOLTAGES + n, f"voltage {n} reading", 0, 0) for n in range(5)),
        *(Register(FANS + n, f"fan {n + 1} reading", 0, 0) for n in range(2)),
        *(Register(VOLTAGE_LIMITS + 2 * n, f"voltage {n} upper limit", 0xFF) for n in range(5)),
        *(Register(VOLTAGE_LIMITS + 2 * n + 1, f"voltage {n} lower limit", 0x00) for n in range(5)),
        *(Register(FAN_LIMITS + n, f"fan {n + 1} limit", 0xFF) for n in range(2)),
        Register(CONFIG, "configuration", 0x08, 0x8B, effect="bit 0 starts monitoring, bit 7 resets the monitor"),
        Register(ALARMS_1, "alarms 1", 0, 0, effect="computed when read, while monitoring"),
        Register(ALARMS_2, "alarms 2", 0, 0, effect="computed when read, while monitoring"),
        Register(0x43, "mask 1"),
        Register(0x44, "mask 2"),
        Register(FAN_DIVISORS, "fan divisors", 0x50, 0xF0, effect="7-6 fan 2, 5-4 fan 1: powers of two"),
        Register(LOW_BITS_2, "temperature low bits 2 and 3", 0, 0),
        Register(LOW_BITS_1, "temperature low bits 1", 0x15, 0x3F),
    ),
    name="hardware monitor", size=MONITOR_SIZE, attribute="monitor.registers",
)  # fmt: skip


def temperature_reading(celsius: float) -> int:
    """The ten-bit reading of a temperature; it rises with it."""
    resistance = _R25 * math.exp(_B * (1 / (celsius + _KELVIN) - 1 / (25 + _KELVIN)))
    return round(1023 * _DIVIDER / (_DIVIDER + resistance))


class HardwareMonitor:
    """The monitor's registers.

    Attributes:
        temperatures: in degrees Celsius; the environment, not state.
        fans: in revolutions a minute.
    """

    vmstate: ClassVar[VMState] = VMState("via-monitor", fields=(block_field("registers", MONITOR),))

    def __init__(self, owner: Device, temperatures: list[int], fans: list[int]) -> None:
        self.temperatures, self.fans = temperatures, fans
        self.registers = RegisterBlock(MONITOR, owner)

    def reset(self) -> None:
        self.registers.reset()

    def read(self, offset: int, size: int) -> int:
        self._sample()
        return self.registers.get(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.registers.write(offset, size, value)
        if touches(offset, size, CONFIG) and self.registers.data[CONFIG] & 0x80:
            self.registers.reset()

    def _sample(self) -> None:
        """Brings the readings and alarms up to date; a stopped monitor keeps the last ones."""
        data = self.registers.data
        if not data[CONFIG] & START:
            return
        alarms = 0
        readings = [temperature_reading(t) for t in self.temperatures]
        for n, ((at, limit, _), reading) in enumerate(zip(TEMPERATURES, readings, strict=True)):
            data[at] = reading >> 2
            alarms |= (reading >> 2 > data[limit]) << _TEMPERATURE_ALARMS[n]
        data[LOW_BITS_1] = data[LOW_BITS_1] & 0x3F | (readings[0] & 3) << 6
        data[LOW_BITS_2] = (readings[1] & 3) << 4 | (readings[2] & 3) << 6
        for n, reading in enumerate(NOMINAL_VOLTAGES):
            data[VOLTAGES + n] = reading
            high, low = data[VOLTAGE_LIMITS + 2 * n], data[VOLTAGE_LIMITS + 2 * n + 1]
            alarms |= (not low <= reading <= high) << _VOLTAGE_ALARMS[n]
        for n, speed in enumerate(self.fans):
            divisor = 1 << (data[FAN_DIVISORS] >> 4 + 2 * n & 3)
            data[FANS + n] = min(FAN_CLOCK // (speed * divisor), 0xFF) if speed else 0xFF
            alarms |= (data[FANS + n] > data[FAN_LIMITS + n]) << _FAN_ALARMS[n]
        self.registers.put(ALARMS_1, 2, alarms)
