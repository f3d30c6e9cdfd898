"""The default prompt: short, true to the run's configuration, append-only."""

from rlm_adapters.prompts import FunctionInfo, Trajectory, Turn, describe_input, root_messages, system_prompt
from rlm_adapters.prompts.describe import cut_middle, type_name


def test_the_system_prompt_stays_under_4000_characters_with_everything_on():
    trajectory = Trajectory(
        query="q",
        children=True,
        sub_window=384_000,
        models=("gpt-5-mini",),
        tools=(FunctionInfo("search(query, top=..)", "Search the web."),),
    )
    assert len(system_prompt(trajectory)) < 4_000
    assert len(system_prompt(trajectory, worked_example=True)) < 5_000


def test_it_speaks_only_of_what_the_run_has():
    plain = system_prompt(Trajectory(query="q", sub_calls=False))
    assert "llm_query" not in plain
    assert "rlm_query" not in plain
    assert "rlm_query" in system_prompt(Trajectory(query="q", children=True))
    assert "2,500 characters" in system_prompt(Trajectory(query="q", max_output_chars=2_500))


def test_messages_are_append_only_whatever_the_balance():
    turns = [Turn("```repl\nprint(1)\n```", "Output: 1"), Turn("```repl\nprint(2)\n```", "Output: 2")]
    first = root_messages(Trajectory(query="q", turns=tuple(turns[:1]), balance="10 sub-calls", iteration=2))
    second = root_messages(Trajectory(query="q", turns=tuple(turns), balance="3 sub-calls", iteration=3))
    assert second[: len(first)] == first


def test_folding_keeps_the_last_turns_whole_and_the_code_of_the_others():
    turns = tuple(Turn(f"```repl\nx{i} = 1\n```", f"Output: {'y' * 5_000}") for i in range(6))
    messages = root_messages(Trajectory(query="q", turns=turns, folded=4))
    text = "\n".join(str(message.content) for message in messages)
    assert "x0 = 1" in text
    assert text.count("y" * 5_000) == 2
    assert len(messages) == 3 + 2 * 2


def test_inputs_are_described_by_type_length_head_and_tail():
    info = describe_input("context", "start " + "x" * 100_000 + " end")
    assert (info.type, info.size) == ("str", 100_010)
    assert info.preview.startswith("'start ")
    assert info.preview.endswith(" end'")
    assert len(info.preview) < 600
    assert type_name([{"a": 1}]) == "list[dict]"
    assert type_name({"a": "b"}) == "dict[str, str]"


def test_a_cut_says_how_much_went():
    cut = cut_middle("a" * 10_000, 3_000)
    assert "7,000 of 10,000 characters not shown" in cut
    assert cut.startswith("a" * 2_000)
    assert cut.endswith("a" * 1_000)
