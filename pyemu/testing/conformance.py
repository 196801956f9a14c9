# SPDX-License-Identifier: MIT
"""What every device must keep to, as tests to inherit:

    class TestDice(DeviceConformance):
        device_class = Dice

The suite plugs the device into a bus of its kind, ISA or PCI, and goes at it with accesses drawn from a fixed seed, so a
failure comes again on the next run.
"""

from __future__ import annotations

import copy
import io
import random
import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..device import Device, ISAFunction, RegisterBlock
from ..errors import ConfigError, MemoryMapError, MigrationError
from .fakes import Fixture, ISAFixture, PCIFixture

_MISSING = object()


class DeviceConformance:
    """Tests of one device.

    Class attributes:
        device_class: the device.
        properties: what it is made with.
        accesses: how many random accesses each test makes.
        live_registers: whether reads may differ between two devices in the same state because the
            host moves on between them.
    """

    device_class: ClassVar[type[Device]]
    properties: ClassVar[Mapping[str, Any]] = types.MappingProxyType({})
    accesses: ClassVar[int] = 400
    live_registers: ClassVar[bool] = False

    def make(self) -> Device:
        """A new device, not plugged in. Override it for a device that needs more than properties."""
        return self.device_class(**self.properties)

    # -- helpers ----------------------------------------------------------------------------------

    def _plugged(self) -> tuple[Fixture, Any]:
        fixture = PCIFixture() if self.device_class.bus_kind == "pci" else ISAFixture()
        return fixture, fixture.plug(self.make())

    def _exercise(self, fixture: Fixture, seed: int, accesses: int | None = None) -> None:
        """Random reads and writes of all sizes wherever the device answers, and time that passes."""
        chance = random.Random(seed)
        for _ in range(accesses if accesses is not None else self.accesses):
            fixture.poke(chance)
            if chance.random() < 0.05:
                fixture.clock.advance(chance.randrange(1, 2_000_000))

    def _save(self, device: Device) -> bytes:
        assert device.vmstate is not None
        device.pre_save()
        return device.vmstate.encode(device)

    def _load(self, device: Device, data: bytes) -> None:
        assert device.vmstate is not None
        stream = io.BytesIO(data)

        def read(count: int) -> bytes:
            found = stream.read(count)
            if len(found) < count:
                raise MigrationError(f"{device.id}: the state ends early")
            return found

        def peek(count: int) -> bytes:
            position = stream.tell()
            found = stream.read(count)
            stream.seek(position)
            return found

        device.vmstate.decode(device, read, device.vmstate.version, peek)
        device.post_load(device.vmstate.version)

    # -- declaration ------------------------------------------------------------------------------

    def test_it_declares_its_name_and_state(self) -> None:
        assert self.device_class.type_name, "type_name is empty"
        assert self.device_class.vmstate is not None, "a device without declared state cannot be saved"
        names = [p.name for p in self.device_class.properties]
        assert len(names) == len(set(names)), f"a property is declared twice: {names}"

    def test_every_declared_field_exists_after_reset(self) -> None:
        _, device = self._plugged()
        assert self._save(device) or not device.vmstate.fields

    def test_an_attribute_that_changes_is_declared(self) -> None:
        fixture, device = self._plugged()
        declared = device.vmstate.attributes() | device.volatile_attributes()
        before = _attributes(device)
        self._exercise(fixture, seed=1)
        fixture.bus.reset()
        self._exercise(fixture, seed=2)
        after = _attributes(device)
        changed = {n for n in before.keys() | after.keys() if before.get(n, _MISSING) != after.get(n, _MISSING)}
        forgotten = sorted(changed - declared)
        assert not forgotten, f"{device.type_name}: neither in vmstate nor in volatile: {', '.join(forgotten)}"

    # -- behaviour --------------------------------------------------------------------------------

    def test_no_access_raises(self) -> None:
        for seed in range(5):
            fixture, _ = self._plugged()
            self._exercise(fixture, seed)

    def test_reset_brings_the_power_on_state_back(self) -> None:
        fixture, device = self._plugged()
        self._exercise(fixture, seed=3)
        device.reset()
        other, twin = self._plugged()
        _park(other, fixture.clock.now_ns)
        twin.reset()
        assert self._save(device) == self._save(twin), "reset() leaves something"

    def test_saved_and_loaded_it_is_the_same(self) -> None:
        # Several ends of the exercise: an interrupt that is lost shows only where one was pending.
        for start in range(40, 48):
            fixture, device = self._plugged()
            self._exercise(fixture, start)
            data = self._save(device)
            other, twin = self._plugged()
            _park(other, fixture.clock.now_ns)
            self._load(twin, data)
            assert self._save(twin) == data
            levels = [[line.level for line in f.lines] for f in (fixture, other)]
            assert levels[0] == levels[1], "a loaded device drives its interrupt lines differently"
            if not self.live_registers:
                self._same_from_here(fixture, other, start)

    def _same_from_here(self, fixture: Fixture, other: Fixture, seed: int) -> None:
        """What neither declaration nor attributes show, such as a compiled chip's private fields, shows here."""
        seen = []
        for one in (fixture, other):
            chance, start = random.Random(seed), len(one.edges)
            answers = []
            for _ in range(self.accesses // 4):
                answers.append(one.poke(chance))
                if chance.random() < 0.05:
                    one.clock.advance(chance.randrange(1, 2_000_000))
            seen.append((answers, one.edges[start:]))
        assert seen[0][0] == seen[1][0], "a loaded device answers differently"
        assert seen[0][1] == seen[1][1], "a loaded device drives its interrupt lines differently later on"

    def test_loading_twice_changes_nothing(self) -> None:
        fixture, device = self._plugged()
        self._exercise(fixture, seed=5)
        data = self._save(device)
        self._load(device, data)
        assert self._save(device) == data

    def test_state_from_a_hostile_file_is_refused_or_harmless(self) -> None:
        fixture, device = self._plugged()
        self._exercise(fixture, seed=12)
        whole = self._save(device)
        chance = random.Random(6)
        for n in range(100):
            data = bytearray(whole if n % 2 else chance.randbytes(len(whole)))
            for _ in range(chance.randrange(1, 4)):
                if data:
                    data[chance.randrange(len(data))] = chance.getrandbits(8)
            fixture, device = self._plugged()
            try:
                self._load(device, bytes(data))
            except MigrationError:
                continue
            self._exercise(fixture, seed=n, accesses=self.accesses // 8)

    def test_a_truncated_state_is_refused(self) -> None:
        _, device = self._plugged()
        data = self._save(device)
        # Every length of a small state; of a large one (a sector buffer) the first bytes and some of the rest.
        first = len(data) if len(data) <= 256 else 64
        for length in (*range(first), *range(first, len(data), max(41, len(data) // 64))):
            try:
                self._load(self._plugged()[1], data[:length])
            except MigrationError:
                continue
            raise AssertionError(f"{length} of {len(data)} bytes were taken for a whole state")

    # -- the bus ----------------------------------------------------------------------------------

    def test_unplugged_it_leaves_nothing_behind(self) -> None:
        fixture, device = self._plugged()
        self._exercise(fixture, seed=8)
        fixture.bus.unplug(device)
        assert fixture.mapped() == []
        assert [line.name for line in fixture.lines if line.level] == []

    def test_plugged_in_again_it_goes_on(self) -> None:
        fixture, device = self._plugged()
        ports = fixture.mapped()
        fixture.bus.unplug(device)
        fixture.bus.plug(device)
        assert fixture.mapped() == ports

    def test_two_at_one_place_are_refused_and_the_first_stays(self) -> None:
        fixture, device = self._plugged()
        ports = fixture.mapped()
        others = list(fixture.bus.devices)
        try:
            if isinstance(fixture, PCIFixture):
                fixture.bus.plug(self.make(), devfn=device.devfn)
            elif ports:
                fixture.plug(self.make())
            else:
                return
        except (ConfigError, MemoryMapError) as error:
            assert device.id in str(error)
        else:
            raise AssertionError("two devices share their ports in silence")
        assert fixture.mapped() == ports
        assert fixture.bus.devices == others

    def test_moved_it_answers_at_its_new_place_only(self) -> None:
        for_function(self, self._moved)

    def _moved(self, fixture: Fixture, device: ISAFunction) -> None:
        self._exercise(fixture, seed=9)
        state, old = self._save(device), fixture.mapped()
        distance = 0x400 if max(old) + 0x400 <= 0xFFFF else -0x400
        device.set_base(device.iobase + distance)
        assert fixture.mapped() == [p + distance for p in old]
        assert self._save(device) == state
        assert all(fixture.read(p) == 0xFF for p in old if p not in fixture.mapped())
        self._exercise(fixture, seed=10)

    def test_hidden_it_is_silent_and_keeps_its_state(self) -> None:
        for_function(self, self._hidden)

    def _hidden(self, fixture: Fixture, device: ISAFunction) -> None:
        self._exercise(fixture, seed=11)
        state, ports = self._save(device), fixture.mapped()
        levels = [line.level for line in fixture.lines]
        device.set_enabled(False)
        assert fixture.mapped() == []
        for port in ports:
            fixture.write(port, 0x5A)
            assert fixture.read(port) == 0xFF
        assert not any(line.level for line in fixture.lines)
        device.set_enabled(True)
        assert (fixture.mapped(), self._save(device)) == (ports, state)
        assert [line.level for line in fixture.lines] == levels


def for_function(suite: DeviceConformance, test: Callable[[Fixture, Any], None]) -> None:
    """Runs *test* on devices that can be moved; the others have nothing to show there."""
    fixture, device = suite._plugged()
    if isinstance(device, ISAFunction):
        test(fixture, device)


def _park(fixture: Fixture, at: int) -> None:
    """Brings the clock to *at*, so that devices that read it can be compared."""
    if at > fixture.clock.now_ns:
        fixture.clock.advance(at - fixture.clock.now_ns)


def _attributes(device: Device) -> dict[str, Any]:
    """Copies of the attributes, public ones of compiled base classes included."""
    values = dict(vars(device))
    for cls in type(device).__mro__:
        for name, value in vars(cls).items():
            if isinstance(value, (types.GetSetDescriptorType, types.MemberDescriptorType)) and name[0] != "_":
                values[name] = getattr(device, name)
    return {n: _copied(v) for n, v in values.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, (bytearray, list, set, dict)):
        return copy.copy(value)
    if isinstance(value, RegisterBlock):
        return bytes(value.data)
    if type(value).__module__.partition(".")[0] == "array":
        return list(value)
    return value
