"""Metadata of a card: what the Hub reads in the YAML at the top of a README.md, the tags it makes of it, its refusals.

The refusals are some of the Hub's own, in its words where they are known: the ones that a generated card can meet.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Hashable, Iterator
from typing import Any

import yaml

_BLOCK = re.compile(r"\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_HUB_ID = re.compile(r"(?:[\w-]+/)?[\w.-]+", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?|code|multilingual")
_LICENSES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl mpl-2.0 odc-by odbl openmdw-1.0
    openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma apple-amlr unknown other
"""
LICENSES = frozenset(_LICENSES.split())


class _Loader(yaml.SafeLoader):
    """A loader that refuses a key given twice, as the Hub's does and PyYAML does not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        if len(keys) != len({str(key) for key in keys}):
            raise yaml.constructor.ConstructorError(None, None, "duplicated mapping key", node.start_mark)
        return super().construct_mapping(node, deep)


@functools.lru_cache(maxsize=4096)
def metadata(readme: str) -> dict[str, Any] | None:
    """Return the metadata of a card, None where it has none.

    Raises:
        yaml.YAMLError: there is some, and it does not parse.
    """
    found = _BLOCK.match(readme)
    data = yaml.load(found[1], _Loader) if found else None
    if data is not None and not isinstance(data, dict):
        raise yaml.YAMLError("the metadata is not a mapping")
    return data or None


def metadata_or_none(readme: str) -> dict[str, Any] | None:
    try:
        return metadata(readme)
    except yaml.YAMLError:
        return None


def check(readme: str) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings that the Hub has for a card."""
    try:
        data = metadata(readme)
    except yaml.YAMLError as problem:
        return [f"YAML Metadata Error: {str(problem).splitlines()[0]}"], []
    if data is None:
        return [], ["empty or missing yaml metadata in repo card"]
    return list(_errors(data)), list(_warnings(data))


def tags(data: dict[str, Any] | None, kind: str, paths: Collection[str] = ()) -> list[str]:
    """Return the tags by which the Hub finds a repository of this kind with this metadata."""
    data = data or {}
    found = []
    if kind == "models":
        found += _list(data.get("library_name"))
        found += ["safetensors"] * any(path.endswith(".safetensors") for path in paths)
        found += ["model-index"] * bool(data.get("model-index"))
        found += [*_list(data.get("tags")), *_list(data.get("pipeline_tag")), *_list(data.get("language"))]
        found += [f"dataset:{name}" for name in _list(data.get("datasets"))]
        found += [f"base_model:{name}" for name in _list(data.get("base_model"))]
    else:
        found += [f"task_categories:{name}" for name in _list(data.get("task_categories"))]
        found += [f"language:{name}" for name in _list(data.get("language"))]
        found += _list(data.get("tags"))
    found += [f"license:{name}" for name in _list(data.get("license"))]
    return [*dict.fromkeys(found), "region:us"]


def _list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [] if value is None else [str(value)]


def _errors(data: dict[str, Any]) -> Iterator[str]:
    for name in _list(data.get("license")):
        if name not in LICENSES:
            yield f'"license" must be one of [{", ".join(sorted(LICENSES))}]'
    for field in ("tags", "datasets", "metrics", "language"):
        value = data.get(field)
        if isinstance(value, dict) or (isinstance(value, list) and not all(isinstance(v, str) for v in value)):
            yield f'"{field}" must be a string or an array of strings'
    for field, where in (("datasets", "https://hf.co/datasets"), ("base_model", "https://hf.co/models")):
        for name in _list(data.get(field)):
            if not _HUB_ID.fullmatch(name):
                yield f'"{field}" with value "{name}" is not valid. If possible, use an id from {where}.'
    for field in ("library_name", "pipeline_tag"):
        if field in data and not isinstance(data[field], str):
            yield f'"{field}" must be a string'
    if "model-index" in data:
        yield from _index_errors(data["model-index"])


def _index_errors(index: Any) -> Iterator[str]:
    if not isinstance(index, list):
        yield '"model-index" must be an array'
        return
    needed = {"task": ("type",), "dataset": ("type", "name")}
    for i, model in enumerate(index):
        where = f"model-index[{i}]"
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            yield f'"{where}.name" is required'
            continue
        results = model.get("results")
        if not isinstance(results, list):
            yield f'"{where}.results" must be an array'
            continue
        for j, result in enumerate(results):
            at = f"{where}.results[{j}]"
            for part, names in needed.items():
                given = result.get(part) if isinstance(result, dict) else None
                for name in names:
                    if not isinstance(given, dict) or not isinstance(given.get(name), str):
                        yield f'"{at}.{part}.{name}" is required'
            metrics = result.get("metrics") if isinstance(result, dict) else None
            if not isinstance(metrics, list) or not metrics:
                yield f'"{at}.metrics" is required'
                continue
            for k, metric in enumerate(metrics):
                for name in ("type", "value"):
                    if not isinstance(metric, dict) or metric.get(name) is None:
                        yield f'"{at}.metrics[{k}].{name}" is required'


def _warnings(data: dict[str, Any]) -> Iterator[str]:
    if data.get("license") == "other" and "license_name" not in data:
        yield '"license_name" is recommended where the license is "other"'
    for name in _list(data.get("language")):
        if not _LANGUAGE.fullmatch(name):
            yield f'"language" with value "{name}" is not valid. It must be an ISO 639-1, 639-2 or 639-3 code'
