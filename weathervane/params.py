"""Reading params/: YAML 1.2, strict schemas, overrides from the command line, errors that name the key."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weathervane.errors import InputError


class Strict(BaseModel):
    """A schema that refuses keys that it does not know, NaN and infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Seed = Annotated[int, Field(ge=0, lt=2**32)]  # torch's generator on a CPU heeds 32 bits of it
DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"
Device = Annotated[str, Field(pattern=DEVICE)]
Schema = TypeVar("Schema", bound=BaseModel)
_brief = reprlib.Repr()  # a few lines of aliases can stand for gigabytes of text
_brief.maxlevel, _brief.maxstring, _brief.maxother = 2, 80, 80


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; plain types only."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith("<<<<<<< ") or "\n<<<<<<< " in text:
            raise ValueError("both sides of a merge stand in it: keep one ('git checkout --ours', or --theirs)")
        content = _parsed(text)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: a mapping of keys to values is expected")
    return content


def check(schema: type[Schema], content: Mapping[str, Any], origin: str | Path) -> Schema:
    """`content` as an instance of `schema`, or one line that names `origin` and every offending key."""
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise InputError("; ".join(_in_words(problem, schema, origin) for problem in error.errors())) from None


def load(schema: type[Schema], path: Path) -> Schema:
    """Read and check a whole params file."""
    return check(schema, read(path), path)


def override(content: dict[str, Any], key: str, value: Any, origin: str | Path) -> dict[str, Any]:
    """A copy of nested `content` with dotted `key` set to `value`; a key that is not there yet is refused."""
    head, _, rest = key.partition(".")
    if head not in content:
        raise InputError(f"{origin} has no key '{head}'{_nearest(head, content)}")
    below = content[head]
    if rest:
        if not isinstance(below, dict):
            raise InputError(f"{origin}: '{head}' holds a single value, so '{key}' names nothing")
        value = override(below, rest, value, f"{origin}: {head}")
    return {**content, head: value}


def value(text: str) -> Any:
    """A value from the command line, read as YAML reads it: 5, 1e-3, true, [0.5, 1.0], sgd."""
    try:
        return _parsed(text)
    except ValueError:
        raise InputError(f"--set: cannot read the value '{text}'") from None


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined with dots, as MLflow searches them; lists stay values."""
    flat: dict[str, Any] = {}
    for key, below in content.items():
        name = f"{prefix}{key}"
        flat.update(flatten(below, f"{name}.") if isinstance(below, Mapping) else {name: below})
    return flat


def _parsed(text: str) -> Any:
    """The one document in a YAML text; ValueError with the line and the reason where there is none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise ValueError((f"line {mark.line + 1}: " if mark else "") + str(error.problem)) from None
    except (YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def _in_words(problem: Any, schema: type[BaseModel], origin: str | Path) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields(schema, problem["loc"][:-1])
        return f"{origin}: unknown key '{key}'{_nearest(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"{origin}: key '{key}' is missing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if problem["type"] == "string_pattern_mismatch":  # its own words are the regular expression
        field = schema.model_fields.get(str(problem["loc"][-1]))
        message = (field and field.description) or message
    return f"{origin}: '{key}' is {_brief.repr(problem['input'])}: {message}" if key else f"{origin}: {message}"


def _fields(schema: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Names of the fields at `path`, of every schema that may stand there."""
    schemas = [schema]
    for part in path:  # a place in a list, or the tag of a union, leads no deeper
        below = [s.model_fields[part].annotation for s in schemas if part in s.model_fields]
        schemas = [model for annotation in below for model in _models(annotation)] or schemas
    return [name for schema in schemas for name in schema.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _nearest(word: str, known: Any) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
