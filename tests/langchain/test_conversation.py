"""What messages become: question, instructions, variables."""

import base64
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from rlm_adapters import InputError, context_block
from rlm_adapters.langchain.conversation import read_conversation

BOOK = "Call me Ishmael. " * 3_000


def read(*messages, threshold=20_000, **options):
    return read_conversation(list(messages), threshold=threshold, **options)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_short_question_is_itself():
    conversation = read(HumanMessage("Why?"))
    assert (conversation.query, conversation.instructions, conversation.inputs) == ("Why?", "", {})


def test_system_messages_are_instructions_wherever_they_stand():
    conversation = read(SystemMessage("Be brief."), HumanMessage("Why?"), SystemMessage("In Latin."))
    assert conversation.instructions == "Be brief.\n\nIn Latin."
    assert conversation.query == "Why?"


def test_a_long_text_becomes_a_variable_and_its_place_shows_start_and_end():
    conversation = read(HumanMessage(f"Summarise the book.\n{BOOK}\nWho is the narrator?"))
    assert conversation.inputs["context"].count("Ishmael") == 3_000
    assert len(conversation.query) < 1_500
    assert "Summarise the book." in conversation.query
    assert "Who is the narrator?" in conversation.query
    assert "`context`" in conversation.query


def test_a_book_in_the_system_message_becomes_a_variable_too():
    conversation = read(SystemMessage(f"Answer from this book: {BOOK}"), HumanMessage("Who?"))
    assert conversation.inputs["context"].endswith("Ishmael. ")
    assert "`context`" in conversation.instructions
    assert len(conversation.instructions) < 1_500


def test_several_long_texts_have_names_of_their_own():
    conversation = read(HumanMessage([BOOK, BOOK.upper(), "Compare."]))
    assert set(conversation.inputs) == {"context", "context_2"}
    assert conversation.query.endswith("Compare.")


def test_names_of_tools_are_not_taken():
    assert set(read(HumanMessage(BOOK), taken=("context",)).inputs) == {"context_2"}


def test_history_is_told_before_the_question_and_steps_after_it():
    conversation = read(
        HumanMessage("Hello"),
        AIMessage("Hi."),
        HumanMessage("What is 1 + 2?", name="ann"),
        AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "x"}]),
        ToolMessage("boom", tool_call_id="x", name="add", status="error"),
    )
    expected = [
        "User: Hello",
        "Assistant: Hi.",
        "What is 1 + 2?",
        'called the tool add with {"a": 1, "b": 2}',
        "Tool add: (failed) boom",
    ]
    positions = [conversation.query.index(part) for part in expected]
    assert positions == sorted(positions)


def test_a_long_history_becomes_a_variable_and_its_end_stays_in_sight():
    turns = [message for i in range(500) for message in (HumanMessage(f"fact {i} " * 10), AIMessage(f"noted {i}"))]
    conversation = read(*turns, HumanMessage("Which fact came first?"))
    assert conversation.inputs["history"][0] == {"role": "User", "content": "fact 0 " * 10}
    assert "noted 499" in conversation.query
    assert len(conversation.query) < 7_000


@pytest.mark.parametrize(
    ("messages", "query"),
    [
        ([AIMessage("I am alone")], "I am alone"),
        ([SystemMessage("Say hello")], "Say hello"),
        ([ChatMessage(role="critic", content="Bad.")], "Bad."),
        ([HumanMessage("a"), HumanMessage("b")], "b"),
        ([ToolMessage("7", tool_call_id="1")], "7"),
    ],
)
def test_any_order_of_messages_has_a_question(messages, query):
    assert query in read(*messages).query


@pytest.mark.parametrize("messages", [[], [HumanMessage("")], [HumanMessage("  \n")]])
def test_nothing_to_answer_is_an_error(messages):
    with pytest.raises(InputError):
        read(*messages)


def test_explicit_context_and_inputs_are_variables():
    conversation = read(HumanMessage("Q"), context=[1, 2], inputs={"rates": {"a": 1}})
    assert conversation.inputs == {"context": [1, 2], "rates": {"a": 1}}


def test_a_context_block_gives_a_message_its_context():
    docs = [Document("one", metadata={"page": 1}), Document("two")]
    conversation = read(HumanMessage([context_block(docs, rates=(1, 2)), {"type": "text", "text": "Q"}]))
    assert conversation.query == "Q"
    assert conversation.inputs["context"][0] == {"page_content": "one", "metadata": {"page": 1}}
    assert conversation.inputs["rates"] == [1, 2]


def test_plain_text_and_text_files_are_variables_whatever_their_length():
    conversation = read(
        HumanMessage(
            [
                {"type": "text-plain", "text": "short note", "mime_type": "text/plain", "title": "Note"},
                {"type": "file", "base64": b64(b"a,b\n1,2\n"), "mime_type": "text/csv", "filename": "t.csv"},
                {"type": "text", "text": "Sum?"},
            ]
        )
    )
    assert list(conversation.inputs.values()) == ["short note", "a,b\n1,2\n"]
    assert "'Note'" in conversation.query
    assert "'t.csv'" in conversation.query


def test_a_pdf_is_its_pages_and_a_file():
    data = (Path(__file__).parents[1] / "data" / "Origin-of-Species.pdf").read_bytes()
    block = {"type": "file", "base64": b64(data), "mime_type": "application/pdf", "extras": {"filename": "darwin.pdf"}}
    conversation = read(HumanMessage([block, {"type": "text", "text": "Title?"}]))
    assert isinstance(conversation.inputs["context"], list)
    assert conversation.files["darwin.pdf"] == data


def test_an_unreadable_file_can_still_be_opened_by_cells():
    block = {"type": "file", "base64": b64(b"PK\x03\x04\0\0"), "mime_type": "application/zip", "filename": "a.zip"}
    conversation = read(HumanMessage([block, {"type": "text", "text": "What is in it?"}]))
    assert conversation.files == {"a.zip": b"PK\x03\x04\0\0"}
    assert "open('a.zip', 'rb')" in conversation.query


@pytest.mark.parametrize(
    "block",
    [
        {"type": "file", "base64": "%%%", "mime_type": "text/plain"},
        {"type": "file", "base64": "", "mime_type": "text/plain", "filename": "x"},
    ],
)
def test_a_broken_file_block_is_named_or_left_to_the_provider(block):
    if block["base64"]:
        with pytest.raises(InputError, match="base64"):
            read(HumanMessage([block, "Q"]))
    else:
        assert read(HumanMessage([block, "Q"])).inputs["document"]["type"] == "file"


def test_images_in_any_providers_form_become_standard_blocks_for_sub_calls():
    openai = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    anthropic = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    conversation = read(HumanMessage([openai, anthropic, {"type": "text", "text": "Same?"}]))
    image = {"type": "image", "base64": "AAAA", "mime_type": "image/png"}
    assert conversation.inputs == {"image": image, "image_2": image}
    assert 'llm_query(["your question about it", image])' in conversation.query


CSV = b64(b"a,b\n1,2\n")


@pytest.mark.parametrize(
    ("block", "inputs"),
    [
        ({"type": "input_image", "image_url": f"data:image/png;base64,{CSV}"}, {"image": "image"}),
        ({"type": "input_image", "file_id": "f1"}, {"image": "image"}),
        ({"type": "image_url", "image_url": "https://x/y.png"}, {"image": "image"}),
        ({"type": "media", "mime_type": "image/png", "data": CSV}, {"image": "image"}),
        ({"type": "media", "mime_type": "text/csv", "data": CSV}, {"context": "a,b\n1,2\n"}),
        ({"type": "media", "mime_type": "video/mp4", "file_uri": "gs://a/b"}, {"video": "video"}),
        (
            {"type": "input_file", "filename": "t.csv", "file_data": f"data:text/csv;base64,{CSV}"},
            {"context": "a,b\n1,2\n"},
        ),
        ({"type": "input_file", "file_url": "https://x/y.pdf"}, {"document": "file"}),
        ({"type": "input_audio", "input_audio": {"data": CSV, "format": "wav"}}, {"audio": "audio"}),
        ({"type": "file", "source_type": "text", "text": "note", "mime_type": "text/plain"}, {"context": "note"}),
        ({"type": "file", "source_type": "base64", "data": CSV, "mime_type": "text/csv"}, {"context": "a,b\n1,2\n"}),
        (
            {"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": "found"}]},
            {"context": "found"},
        ),
        (
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "part"}]}},
            {"context": "part"},
        ),
        (
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "all"}, "title": "T"},
            {"context": "all"},
        ),
        ({"type": "hologram", "light": 5}, {"hologram": "hologram"}),
        ({"document": {"name": "n", "source": {"text": "t"}}}, {"document": None}),
    ],
)
def test_blocks_of_any_provider_become_variables_and_none_is_lost(block, inputs):
    found = read(HumanMessage([block, {"type": "text", "text": "Q"}]))
    assert {n: v if isinstance(v, str) else v.get("type") for n, v in found.inputs.items()} == inputs
    assert all(f"`{name}`" in found.query for name in inputs)
    assert found.query.endswith("Q")


def test_input_text_is_text():
    assert read(HumanMessage([{"type": "input_text", "text": "Why?"}])).query == "Why?"


def test_what_a_model_said_in_its_providers_form_is_named_only():
    said = AIMessage([{"type": "web_search_call", "id": "1"}, {"type": "text", "text": "ok"}])
    conversation = read(said, HumanMessage("Q"))
    assert conversation.inputs == {}
    assert "web_search_call" in conversation.query


def test_a_huge_question_is_a_variable_whose_start_and_end_are_shown():
    question = "Here is a story. " + "And then it rained. " * 500_000 + "How often did it rain?"
    conversation = read(SystemMessage("Be exact."), HumanMessage(question), context="rules")
    assert conversation.inputs == {"context": "rules", "context_2": question}
    assert "How often did it rain?" in conversation.query
    assert "Here is a story." in conversation.query
    assert len(conversation.query) < 1_500


def test_reasoning_and_tool_call_blocks_are_not_told_twice():
    message = AIMessage(
        [{"type": "thinking", "thinking": "hmm"}, {"type": "text", "text": "ok"}, {"type": "tool_use", "id": "1"}],
        tool_calls=[{"name": "f", "args": {}, "id": "1"}],
    )
    query = read(HumanMessage("Q"), message).query
    assert "hmm" not in query
    assert query.count("ok") == query.count("the tool f") == 1
