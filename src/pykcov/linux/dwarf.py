"""Debug information by pyelftools, for where there is no ``addr2line``: DWARF 4 and 5, unit by unit as needed."""

from __future__ import annotations

import bisect
import errno
import functools
import mmap
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.dwarf.descriptions import describe_form_class
from elftools.dwarf.ranges import BaseAddressEntry
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Symbol, SymbolTableSection
from elftools.elf.segments import NoteSegment

from ..errors import KcovError
from .frames import Frame

__all__ = ["Dwarf"]


class Dwarf:
    """The debug information of one file that is linked: a vmlinux."""

    def __init__(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                # The reader seeks in it for as long as it lives.
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._elf = ELFFile(data)  # type: ignore[arg-type] # as good as a file
            self._info = self._elf.get_dwarf_info()
            self.has_debug_info = self._elf.has_dwarf_info(strict=True)
            self.build_id = self._build_id()
        except (ELFError, ValueError) as error:  # a file without bytes cannot be mapped
            raise KcovError(errno.EINVAL, f"{path}: {error}") from None
        except OSError as error:
            raise KcovError(error.errno or errno.EIO, f"{path}: {error.strerror}") from None
        self._units: dict[int, _Unit] = {}
        self._starts, self._ranges = self._of_units()

    def _build_id(self) -> str:
        parts = [part for part in self._elf.iter_segments() if isinstance(part, NoteSegment)]
        notes = (note for part in parts for note in part.iter_notes())
        found = (str(note["n_desc"]) for note in notes if note["n_type"] == "NT_GNU_BUILD_ID")
        return next(found, "")

    def addresses(self, names: Sequence[str]) -> dict[str, int]:
        """Return the addresses of these symbols, of those that are there."""
        return {s.name: s["st_value"] for s in self._symbols() if s.name in names}

    def frames(self, addresses: Sequence[int]) -> Iterator[tuple[Frame, ...]]:
        """Yield the frames of each address, in order; the innermost comes first."""
        for address in addresses:
            at = bisect.bisect_right(self._starts, address) - 1
            end, offset = self._ranges[at] if at >= 0 else (0, 0)
            frames, place = self._unit(offset).frames(address) if address < end else ((), ("", 0))
            if (
                not frames
            ):  # gcc describes no function that it made out of others, nor one in assembler
                name = self._symbol(address)
                frames = (Frame.of(name or "??", *place),) if name or place[0] else ()
            yield frames

    def _symbol(self, address: int) -> str:
        at = bisect.bisect_right(self._functions, address, key=lambda row: row[0]) - 1
        start, size, name = self._functions[at] if at >= 0 else (0, 0, "")
        return name if address < start + size else ""

    @functools.cached_property
    def _functions(self) -> list[tuple[int, int, str]]:
        return sorted(
            (symbol["st_value"], symbol["st_size"], symbol.name)
            for symbol in self._symbols()
            if symbol["st_info"]["type"] == "STT_FUNC"
        )

    def _symbols(self) -> Iterator[Symbol]:
        table = self._elf.get_section_by_name(".symtab")
        return table.iter_symbols() if isinstance(table, SymbolTableSection) else iter(())

    def _of_units(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Return where each range of addresses begins, and its end and the offset of its unit."""
        found = []
        table = self._info.get_aranges() if self._info.debug_aranges_sec else None
        if table is not None:
            for entry in table.entries:
                found.append((entry.begin_addr, entry.begin_addr + entry.length, entry.info_offset))
        else:  # clang makes none
            for unit in self._info.iter_CUs():
                for first, last in _ranges(self._info, unit, unit.get_top_DIE()):
                    found.append((first, last, unit.cu_offset))
        found.sort()
        return [row[0] for row in found], [row[1:] for row in found]

    def _unit(self, offset: int) -> _Unit:
        if offset not in self._units:
            self._units[offset] = _Unit(self._info, self._info.get_CU_at(offset))
        return self._units[offset]


class _Inlined(NamedTuple):
    """A range of addresses in a function where another one is inlined, or the function itself (depth 0)."""

    first: int
    end: int
    depth: int
    name: str
    call_file: int  # where it is called from; of the unit's files
    call_line: int


class _Unit:
    """One compilation unit: its lines, and its functions as they are asked for."""

    def __init__(self, info: Any, unit: Any) -> None:
        self._info = info
        self._unit = unit
        self._functions: dict[int, list[_Inlined]] = {}
        self._dies: dict[int, Any] = {}
        top = unit.get_top_DIE()
        ranges = []
        for die in top.iter_children():
            if die.tag == "DW_TAG_subprogram":
                for first, end in _ranges(info, unit, die):
                    ranges.append((first, end, die.offset))
                    self._dies[die.offset] = die
        ranges.sort()
        self._starts = [row[0] for row in ranges]
        self._ranges = [row[1:] for row in ranges]
        self._read_lines(_text(top, "DW_AT_comp_dir"))

    def frames(self, address: int) -> tuple[tuple[Frame, ...], tuple[str, int]]:
        """Return the frames of an address, the innermost first, () for none; and its file and line."""
        file, line = place = self._line(address)
        at = bisect.bisect_right(self._starts, address) - 1
        end, offset = self._ranges[at] if at >= 0 else (0, 0)
        if address >= end:
            return (), place
        inside = [i for i in self._function(offset) if i.first <= address < i.end]
        result = []
        for inlined in sorted(inside, key=lambda i: -i.depth):
            result.append(Frame.of(inlined.name, file, line))
            file, line = self._files.get(inlined.call_file, ""), inlined.call_line
        return tuple(result), place

    def _line(self, address: int) -> tuple[str, int]:
        at = bisect.bisect_right(self._addresses, address) - 1
        return self._lines[at] if at >= 0 else ("", 0)

    def _read_lines(self, directory: str) -> None:
        rows: list[tuple[int, int, str, int]] = []
        program = self._info.line_program_for_CU(self._unit)
        self._files: dict[int, str] = {} if program is None else _files(program, directory)
        for number, entry in enumerate(() if program is None else program.get_entries()):
            state = entry.state
            if state is None:
                continue
            if state.end_sequence:
                rows.append(
                    (state.address, -1, "", 0)
                )  # what begins at the same address comes after
            else:
                rows.append((state.address, number, self._files.get(state.file, ""), state.line))
        rows.sort()
        self._addresses = [row[0] for row in rows]
        self._lines = [row[2:] for row in rows]

    def _function(self, offset: int) -> list[_Inlined]:
        found = self._functions.get(offset)
        if found is None:
            found = self._functions[offset] = []
            self._collect(self._dies[offset], 0, found)
        return found

    def _collect(self, die: Any, depth: int, found: list[_Inlined]) -> None:
        if die.tag in ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine"):
            name = _name(die)
            file, line = _number(die, "DW_AT_call_file"), _number(die, "DW_AT_call_line")
            for first, end in _ranges(self._info, self._unit, die):
                found.append(_Inlined(first, end, depth, name, file, line))
            depth += 1
        for child in die.iter_children():
            if child.tag in ("DW_TAG_inlined_subroutine", "DW_TAG_lexical_block"):
                self._collect(child, depth, found)


def _ranges(info: Any, unit: Any, die: Any) -> Iterator[tuple[int, int]]:
    """Yield the ranges of addresses of a DIE: from, to."""
    attributes = die.attributes
    if "DW_AT_ranges" in attributes:
        base = _number(unit.get_top_DIE(), "DW_AT_low_pc")
        for entry in info.range_lists().get_range_list_at_offset(
            attributes["DW_AT_ranges"].value, unit
        ):
            if isinstance(entry, BaseAddressEntry):
                base = entry.base_address
            elif entry.is_absolute:
                yield entry.begin_offset, entry.end_offset
            else:
                yield base + entry.begin_offset, base + entry.end_offset
    elif "DW_AT_low_pc" in attributes and "DW_AT_high_pc" in attributes:
        first, high = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
        is_length = describe_form_class(high.form) == "constant"
        yield first, first + high.value if is_length else high.value


def _name(die: Any) -> str:
    """Return the name of a function, which its abstract instance may have."""
    while "DW_AT_name" not in die.attributes:
        origin = next(
            (a for a in ("DW_AT_abstract_origin", "DW_AT_specification") if a in die.attributes), ""
        )
        if not origin:
            return "??"
        die = die.get_DIE_from_attribute(origin)
    return _text(die, "DW_AT_name")


def _text(die: Any, name: str) -> str:
    value = die.attributes[name].value if name in die.attributes else b""
    return os.fsdecode(value)


def _number(die: Any, name: str) -> int:
    return int(die.attributes[name].value) if name in die.attributes else 0


def _files(program: Any, directory: str) -> dict[int, str]:
    """Return the names of a unit's files by their number."""
    header = program.header
    folders = [os.fsdecode(folder) for folder in header["include_directory"]]
    first = 0
    if header["version"] < 5:
        folders.insert(0, directory)
        first = 1
    return {
        number: os.path.join(directory, folders[entry["dir_index"]], os.fsdecode(entry["name"]))
        for number, entry in enumerate(header["file_entry"], first)
    }
