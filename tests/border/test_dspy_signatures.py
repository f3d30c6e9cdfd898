"""A signature that a cell writes for ``dspy.Predict`` is data: it imports, evaluates, reads and shows nothing."""

import sys

import dspy
import pytest

from rlm_adapters import RLM, RestrictedPythonInterpreter
from tests.dspy.scripted import scripted_lm

SECRET = "sk-a-key-of-the-environment"
CODE = "__import__('pathlib').Path({path!r}).touch()"

TYPES = {
    "text in a list": "list[{code!r}]",
    "text in a dict": "dict[str, {code!r}]",
    "text in List": "List[{code!r}]",
    "text in Optional": "Optional[{code!r}]",
    "text in a tuple": "tuple[{code!r}, ...]",
    "text alone": "{code!r}",
    "text in a union": "int | list[{code!r}]",
    "a forward reference": "ForwardRef({code!r})",
    "annotated": "Annotated[str, {code!r}]",
    "a type variable": "TypeVar[{code!r}]",
    "the environment": "os.environ",
    "the environment in a Literal": "Literal[os.environ]",
    "the environment in a union": "str | os.environ",
    "the environment in a list": "list[os.environ]",
    "a module": "antigravity",
    "an attribute of a module": "typing.sys",
    "further down": "typing.sys.modules",
    "a call": "eval({code!r})",
    "a field": "Field(default_factory={code!r})",
    "a lambda": "(lambda: {code})",
    "code": "{code}",
    "an image, whose text is a path": "dspy.Image",
    "a file": "dspy.File",
    "a path": "pathlib.Path",
    "a class of ours": "rlm_adapters.ContentRef",
}


@pytest.fixture(params=["ours", "dspy.RLM on our interpreter"])
def seen(request, monkeypatch):
    """Run cells; gives what the last one submitted."""
    monkeypatch.setenv("A_KEY_OF_THE_HOST", SECRET)

    def play(cell):
        def script(prompt):
            if "repl_history" in prompt:
                return {"reasoning": "r", "code": cell}
            return {"y": "[]", "reasoning": "r"}

        if request.param == "ours":
            program = RLM("query -> answer", sub_agents=True, max_iters=2)
        else:
            program = dspy.RLM("query -> answer", interpreter_factory=RestrictedPythonInterpreter, max_iters=2)
        with dspy.context(lm=scripted_lm(script)):
            return program(query="q").answer

    return play


def caught(expression):
    return f"import dspy\ntry:\n    a = 'made: ' + str({expression})\nexcept Exception as e:\n    a = str(e)\nSUBMIT(a)"


@pytest.mark.parametrize("type_", TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("side", ["x: {} -> y", "x -> y: {}"], ids=["input", "output"])
def test_a_type_that_is_more_than_a_name_is_refused(type_, side, seen, tmp_path):
    target = tmp_path / "written by the cell"
    known = set(sys.modules)
    signature = side.format(type_.format(code=CODE.format(path=str(target))))
    answer = seen(caught(f"dspy.Predict({signature!r})(x='a')"))
    assert "cell" in answer
    assert not answer.startswith("made")
    assert SECRET not in answer
    assert not target.exists()
    assert "antigravity" not in set(sys.modules) - known


@pytest.mark.parametrize("kind", ["Predict", "ChainOfThought"])
@pytest.mark.parametrize("key", ["signature", "lm", "new_signature"])
def test_a_call_cannot_bring_another_signature_or_model(kind, key, seen, tmp_path):
    target = tmp_path / "written by the cell"
    value = f"x -> y: list[{CODE.format(path=str(target))!r}]"
    answer = seen(caught(f"dspy.{kind}('x -> y')(x='a', **{{{key!r}: {value!r}}})"))
    assert f"{key} cannot be given to a predictor in a cell" in answer
    assert not target.exists()


@pytest.mark.parametrize(
    "expression",
    [
        "dspy.Predict({'x': 'str'})(x='a')",
        "dspy.Predict(None)(x='a')",
        "dspy.Predict(['x -> y'])(x='a')",
        "dspy.Predict(dspy.Signature({'a': 1}))(x='a')",
        "dspy.Predict(dspy.Signature('x -> y', ['be kind']))(x='a')",
        "dspy.ChainOfThought('x -> y', rationale_field_type='int')(x='a')",
        "dspy.Predict('x -> y', callbacks=['a'])(x='a')",
        "dspy.Predict('x=open(1) -> y')(x='a')",
        "dspy.Predict('x): pass\\ndef g(a -> y')(x='a')",
        "dspy.Predict('(' * 5000 + ' -> y')(x='a')",
        "dspy.Predict('x' * 30000 + ' -> y')(x='a')",
    ],
)
def test_what_is_no_signature_is_refused(expression, seen):
    assert not seen(caught(expression)).startswith("made")


@pytest.mark.parametrize(
    "signature",
    [
        "x -> y: list[str]",
        "x: str | None -> y: list[dict[str, int]]",
        "x: Literal['a', 'b'] -> y: Optional[list[int]]",
        "x: typing.Any -> y: List[tuple[str, ...]]",
    ],
)
def test_honest_types_are_taken(signature, seen):
    assert seen(caught(f"dspy.Predict({signature!r})(x='a').y")) == "made: []"
