"""Any rows of a prompt and a schema that the JSON in the answer must satisfy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.evaluate.benchmarks._benchmark import Answer, MessageBenchmark, Question
from smidgen.evaluate.benchmarks._written import PROMPTS

if TYPE_CHECKING:
    from smidgen.data.records import Record

_TRIES = 64  # brackets that are tried as the beginning; bounds the time that a text of nothing but brackets takes


@dataclass(frozen=True)
class JsonSchema(MessageBenchmark):
    """Your own questions, whose answer must be JSON that satisfies a schema.

    The first object or list in the answer counts, so that words and fences around it do no harm. ``valid`` is 1 where
    it satisfies the schema, ``json`` where there is one at all. Nothing a schema refers to elsewhere is fetched.

    Example:
        >>> first_json('Here you are: {"a": [1]} Good day {'), first_json("no")
        ({'a': [1]}, None)
    """

    expects: ClassVar[str] = "prompt (or question) and schema, a JSON schema"
    source: ClassVar[str] = "your own rows"
    writes: ClassVar[int] = 512
    main: ClassVar[str] = "valid"

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        prompt, schema = record.text(*PROMPTS).rstrip(), record.value("schema")
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except json.JSONDecodeError as error:
                raise record.error(f"has a 'schema' that is no JSON: {error}") from None
        fault = _fault(schema)
        if fault is not None:
            raise record.error(f"has a 'schema' that cannot be: {fault}")
        return Question(prompts=(prompt,), references=(json.dumps(schema),), worked=prompt, message=self.chat)

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Say whether the answer is JSON, and whether it satisfies the schema."""
        found = first_json(answer.text)
        valid = found is not None and _satisfies(json.loads(question.references[0]), found)
        return {"valid": float(valid), "json": float(found is not None)}


def first_json(text: str) -> Any:
    """Return the first object or list that stands in a text, None where there is none."""
    decoder = json.JSONDecoder()
    for begin in islice(re.finditer(r"[{\[]", text), _TRIES):
        try:
            return decoder.raw_decode(text, begin.start())[0]
        except (ValueError, RecursionError):
            continue
    return None


def _fault(schema: Any) -> str | None:
    """Return what is wrong with a schema."""
    from jsonschema import SchemaError, validators

    if not isinstance(schema, Mapping):
        return "it is no object"
    try:
        validators.validator_for(schema).check_schema(schema)
    except SchemaError as error:
        return str(error.message)
    return None


def _satisfies(schema: Any, found: Any) -> bool:
    from jsonschema import validators
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    kind = validators.validator_for(schema)
    try:
        return bool(kind(schema, registry=Registry()).is_valid(found))
    except (Unresolvable, RecursionError):
        return False
