"""Reader of YAML that is not trusted: it returns plain values, or raises one UserError within a second.

    settings = read_yaml("somebody_elses.yaml")

300 bytes of YAML can expand to terabytes (aliases of lists of aliases, the "billion laughs"), nest deeper
than Python's stack, and hold integers of a million digits. The size of the result is computed before anything
is built. Tags that name code and duplicate keys are errors.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from simscaleai.errors import MissingFileError, UserError
from simscaleai.guards import reason, regular_file
from simscaleai.json_types import JsonValue

MAX_BYTES = 64 * 1024
MAX_DEPTH = 40
MAX_VALUES = 20_000  # with every alias expanded
MAX_SCALAR = 8_000  # characters
MAX_BITS = 63  # of an integer

_LONG_INTEGER = re.compile(r"[-+]?[0-9_]{400,}")  # which Python itself may refuse to read
# libyaml's parser is ten times as fast; some builds of PyYAML lack it.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(yaml.SafeLoader):
    """Reads values as OmegaConf does: 1e-3 is a number, a date is text, and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen = set()
        for key, _ in node.value:
            if key.tag != yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG:
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"found duplicate key {key.value}", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    # the numbers of YAML 1.2 that YAML 1.1, which PyYAML reads, takes for text
    re.compile(r"[-+]?[0-9]+(_[0-9]+)*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def read_yaml(path: str | Path) -> JsonValue:
    """Return the plain values of a YAML file, None for an empty one; see `parse_yaml`.

    Raises:
      MissingFileError: the file does not exist.
      UserError: it cannot be read, or is refused.
    """
    path = Path(path)
    if not str(path).startswith("/dev/fd/"):  # a shell's <(command) is waited for
        regular_file(path, "configuration file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise MissingFileError(f"There is no configuration file {str(path)!r}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not valid YAML: it is not text in UTF-8 ({reason(error)})."
        ) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> JsonValue:
    """Return the plain values of a YAML text.

    Args:
      text: one document.
      source: what errors call it.

    Raises:
      UserError: it is not valid, or larger than any settings are.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{source} is larger than {MAX_BYTES // 1024} KiB; settings never are.")
    try:
        # Cheap checks first: events before nodes, nodes before values.
        _check_events(text, source)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node, source)
        value = loader.construct_document(node)
    except UserError:
        raise
    except Exception as error:  # also Python's own for dates, numbers and characters
        raise UserError(f"{source} is not valid YAML: {_first_line(error)}") from None
    _check_numbers(value, source)
    return value


def _check_events(text: str, source: str) -> None:
    """Refuse deep nesting and long values from the stream of parser events, which takes no memory."""
    depth = 0
    for event in yaml.parse(text, Loader=_PARSER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise UserError(
                    f"{source} nests deeper than {MAX_DEPTH} levels; settings never do."
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MAX_SCALAR:
                raise UserError(
                    f"{source} has a value of {len(event.value)} characters; none is so long."
                )
            if event.implicit[0] and _LONG_INTEGER.fullmatch(event.value):
                raise _too_large(source)


def _check_size(root: yaml.Node, source: str) -> None:
    """Refuse a document whose aliases make it too large or endless."""
    known: dict[int, tuple[int, int]] = {}  # {id of a node: (values, depth)}, each measured once
    open_nodes: set[int] = set()  # ids of the nodes that are being measured: the path from the root

    def measure(node: yaml.Node) -> tuple[int, int]:
        """Return the number of values in a node with its aliases expanded, and their depth."""
        if id(node) in open_nodes:
            raise UserError(f"{source} refers to itself; settings cannot.")
        if id(node) not in known:
            open_nodes.add(id(node))
            parts = node.value if isinstance(node, yaml.CollectionNode) else ()
            # A mapping's value is a list of pairs of nodes, a sequence's a list of nodes.
            flat = [n for part in parts for n in (part if isinstance(part, tuple) else (part,))]
            sizes, depths = zip((0, 0), *map(measure, flat), strict=True)
            open_nodes.remove(id(node))
            known[id(node)] = size, depth = 1 + sum(sizes), 1 + max(depths)
            if size > MAX_VALUES:
                raise UserError(
                    f"{source} stands for more than {MAX_VALUES} values, by references to references;"
                    " settings never do."
                )
            if depth > MAX_DEPTH + 1:
                raise UserError(
                    f"{source} nests deeper than {MAX_DEPTH} levels, by references; settings never do."
                )
        return known[id(node)]

    measure(root)


def _check_numbers(value: object, source: str) -> None:
    """Refuse integers that do not fit 64 bits, such as those written in hexadecimal."""
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise _too_large(source)
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    if isinstance(parts, list | tuple | set):
        for part in parts:
            _check_numbers(part, source)


def _too_large(source: str) -> UserError:
    return UserError(f"{source} has an integer of more than {MAX_BITS} bits; none is so large.")


def _first_line(error: Exception) -> str:
    """Return an error of PyYAML in one line, with the line number of the text."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {str(error.problem).rstrip('.')}."
    return f"{reason(error)}."
