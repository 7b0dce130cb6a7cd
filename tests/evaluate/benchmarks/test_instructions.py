"""Every instruction of IFEval with a text that follows it and one that does not."""

import json

import pytest

from smidgen.data.records import Record
from smidgen.errors import InvalidInput
from smidgen.evaluate import benchmarks
from smidgen.evaluate.benchmarks._benchmark import Answer
from smidgen.evaluate.benchmarks._instructions import CHECKS, follows, loosened, needs, sentences

ENGLISH = "the weather was good yesterday, and all of us went for a walk along the river"
CASES = [
    ("change_case:capital_word_frequency", (2, "at least"), "GO there NOW", "GO there now"),
    ("change_case:capital_word_frequency", (2, "less than"), "GO there now", "GO there NOW"),
    ("change_case:english_capital", (), ENGLISH.upper(), ENGLISH),
    ("change_case:english_lowercase", (), ENGLISH, ENGLISH.capitalize()),
    ("combination:repeat_prompt", ("Say tea.",), " say TEA. Tea!", "Tea! Say tea."),
    ("combination:two_responses", (), "one******two", "one******one"),
    ("combination:two_responses", (), "******one******two******", "one******two******three"),
    ("detectable_content:number_placeholders", (2,), "[name] lives in [town]", "[name]"),
    ("detectable_content:postscript", ("P.S.",), "Bye.\nP. S. Write!", "Bye. PS write"),
    ("detectable_content:postscript", ("P.P.S",), "Bye.\np.p.s. Write!", "Bye.\nP.S. Write!"),
    ("detectable_format:constrained_response", (), "Well: My answer is no.", "no"),
    ("detectable_format:json_format", (), '```json\n{"a": 1}\n```', '{"a": 1'),
    ("detectable_format:multiple_sections", (2, "SECTION"), "SECTION 1\na\nSECTION 2\nb", "SECTION 1\na\nSection 2"),
    ("detectable_format:number_bullet_lists", (2,), "* one\n - two\n**bold**", "* one\n- two\n- three"),
    ("detectable_format:number_highlighted_sections", (2,), "*a* and *b*", "*a* and * *"),
    ("detectable_format:title", (), "<<tea>>\nis good", "<< >>\n<tea>"),
    ("keywords:existence", (["tea", "cup"],), "A CUP of Tea", "a cup"),
    ("keywords:forbidden_words", (["tea"],), "steam", "Tea is good"),
    ("keywords:frequency", (2, "tea", "at least"), "tea, Tea", "tea"),
    ("keywords:frequency", (2, "tea", "less than"), "tea", "tea, Tea"),
    ("keywords:letter_frequency", (3, "at least", "E"), "eE e", "ee"),
    ("language:response_language", ("de",), "Das Wetter war gestern gut und wir gingen am Fluss entlang.", ENGLISH),
    ("length_constraints:nth_paragraph_first_word", ("Tea", 2, 2), "One.\n\n'tea, two", "One. tea\n\nTwo"),
    ("length_constraints:nth_paragraph_first_word", ("tea", 2, 2), "One.\n\nTea", "One.\n\nTea\n\nthree"),
    ("length_constraints:number_paragraphs", (2,), "one\n***\ntwo\n***", "one\n***\n***\ntwo"),
    ("length_constraints:number_sentences", (2, "at least"), "Tea? Good", "Dr. Tea is good"),
    ("length_constraints:number_words", (3, "less than"), "two words", "now three words"),
    ("punctuation:no_comma", (), "a b", "a, b"),
    ("startend:end_checker", ("Any questions?",), 'Tea. "any questions?"\n', "Any questions? No."),
    ("startend:quotation", (), ' "tea" ', '"'),
]


@pytest.mark.parametrize(("name", "values", "good", "bad"), CASES)
def test_a_text_that_follows_and_one_that_does_not(name, values, good, bad):
    given = dict(zip(sorted(needs(name)), values, strict=True))
    assert follows(name, given, good) and not follows(name, given, bad) and not follows(name, given, " \n")


def test_all_of_the_papers_instructions_are_here():
    assert len(CHECKS) == 25 and {name for name, *_ in CASES} == set(CHECKS)


def test_sentences_end_where_people_end_them():
    text = "Mr. J. Fox, e.g. a writer, paid $3.50 at 9 p.m. on time. Did he?! He did… (He said so.) The end"
    assert sentences(text) == 5


def asked(names, kwargs):
    task = benchmarks.find("ifeval")
    return task, task.question(
        Record("x.jsonl, line 3", {"prompt": "p", "instruction_id_list": names, "kwargs": kwargs})
    )


def test_strictly_and_loosely_of_prompts_and_instructions():
    names = ["punctuation:no_comma", "startend:quotation"]
    task, question = asked(names, [{}, {"relation": None}])
    answers = [Answer(text='Sure, here:\n"tea"'), Answer(text='"tea, milk"'), Answer(text='"tea"')]
    assert [tuple(task.score(question, answer).values()) for answer in answers] == [(0, 1), (0, 0), (1, 1)]
    told = task.summary([question] * 3, answers)
    assert told["inst_level_strict_acc"] == pytest.approx(3 / 6) and told["inst_level_loose_acc"] == pytest.approx(
        5 / 6
    )
    assert told["instructions"]["punctuation:no_comma"] == {"items": 3, "strict": 1, "loose": 2}
    assert len(loosened("a\nb\nc")) == 8 and json.dumps(told)


@pytest.mark.parametrize(
    ("names", "kwargs", "part"),
    [
        (["punctuation:no_commas"], [{}], r"line 3 .*Did you mean 'punctuation:no_comma'"),
        (["keywords:existence"], [{}], "without keywords"),
        (["keywords:existence"], [], "as many objects"),
        (["keywords:existence"], [{"keywords": ["a("]}], "cannot be"),
        (["keywords:frequency"], [{"keyword": "a", "frequency": 1, "relation": "about"}], "relation 'about'"),
        (["length_constraints:number_words"], [{"num_words": "many", "relation": "at least"}], "cannot be"),
    ],
)
def test_instructions_that_cannot_be(names, kwargs, part):
    with pytest.raises(InvalidInput, match=part):
        asked(names, kwargs)
