"""One run of each kind to trace: three root calls, five sub-calls side by side, one child RLM."""

from tests.server import cell

CONTEXT = "word " * 20_000
_FIRST = (
    "parts = [context[i:i + 1000] for i in range(0, 5000, 1000)]\n"
    "answers = [llm_query('What is in this? ' + part[:50]) for part in parts]"
)
CELLS = (
    _FIRST,
    "size = rlm_query('How long is it?', context[:500])",
    "SUBMIT(answers[0] + str(size))",
)
ANSWER = "words500"
ROOT_CALLS, SUB_CALLS, CHILD_CALLS = 3, 5, 1


def script(server):
    """Play the models of the run."""

    def root(messages, request):
        if "How long is it?" in str(messages) and "What is it?" not in str(messages):
            return cell("SUBMIT(len(context))")
        return cell(CELLS[sum(message["role"] == "assistant" for message in messages)])

    server.script("root", root)
    server.script("sub", lambda messages, request: "words")
