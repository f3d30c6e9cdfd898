"""Optimise an RLM with DSPy's optimizers and use the result in LangChain: python optimize_rlm.py [DIRECTORY].

The task is to count support tickets. The program is compiled with BootstrapFewShot, MIPROv2 and GEPA. Each result is
saved as a JSON file, and a ``ChatRLM`` uses the best one in a ``prompt | model | parser`` chain.

    pip install 'rlm-adapters[dspy,openai]' optuna

RLM_MODEL names the optimised model (default gpt-5-mini), RLM_TEACHER the model that makes demonstrations and proposes
instructions (default gpt-5). OPENAI_API_KEY and OPENAI_BASE_URL are read as usual.
"""

import os
import random
import sys
from pathlib import Path

import dspy
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from rlm_adapters import RLM, ChatRLM, Limits, gepa_metric, lm_from_chat_model

QUESTION = "How many tickets are about delivery?"
THREADS = 8


def model(role: str, default: str) -> ChatOpenAI:
    """The chat model of a role."""
    return ChatOpenAI(model=os.environ.get(role, default))


def examples(count: int, seed: int) -> list[dspy.Example]:
    """Logs of tickets, with the number of those that are about delivery."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    made = []
    for _ in range(count):
        late = dice.randint(3, 9)
        wordy = dice.random() < 0.6  # these customers use the word twice
        delivery = ["the delivery is late, I paid for express delivery" if wordy else "the delivery is late"] * late
        lines = [*delivery, *["the lamp is broken"] * dice.randint(200, 400)]
        dice.shuffle(lines)
        log = "\n".join(f"Ticket {number}: {line}" for number, line in enumerate(lines, 1))
        made.append(dspy.Example(context=log, query=QUESTION, answer=late).with_inputs("context", "query"))
    return made


def metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:  # noqa: ARG001 - DSPy's
    """Whether the number is right."""
    return bool(prediction.answer == example.answer)


def explained(example: dspy.Example, prediction: dspy.Prediction) -> dspy.Prediction:
    """The same with words, for GEPA; `gepa_metric` adds the trajectory and its cost."""
    right = metric(example, prediction)
    return dspy.Prediction(score=float(right), feedback=f"{prediction.answer} given, {example.answer} is right.")


def chain_score(model_with_prompt: ChatRLM, data: list[dspy.Example]) -> float:
    """Percentage of right answers of a LangChain chain."""
    chain = ChatPromptTemplate.from_messages([("human", "{log}"), ("human", "{question}")])
    chain = chain | model_with_prompt | StrOutputParser()
    answers = chain.batch([{"log": one.context, "question": one.query} for one in data])
    return 100 * sum(answer == str(one.answer) for answer, one in zip(answers, data, strict=True)) / len(data)


def learned(program: RLM) -> str:
    """What an optimizer put into the program, in a few words."""
    step = program.generate_action
    first_line = step.signature.instructions.strip().splitlines()[0]
    return f"{len(step.demos)} demos; the instruction begins: {first_line[:60]}"


def main(directory: Path) -> tuple[dict[str, float], Path]:
    """Compile, save and compare.

    Returns:
        Scores by name (``before``, one for each optimizer, ``chain before`` and ``chain after``), and the file that the
        last one is of.
    """
    root = model("RLM_MODEL", "gpt-5-mini")
    teacher = lm_from_chat_model(model("RLM_TEACHER", "gpt-5"), cache=False)
    dspy.configure(lm=lm_from_chat_model(root, cache=False))
    train, test = examples(12, seed=1), examples(20, seed=2)
    program = RLM("context, query -> answer: int", max_iters=5)
    evaluate = dspy.Evaluate(devset=test, metric=metric, num_threads=THREADS)
    scores = {"before": evaluate(program).score}
    program.save(directory / "before.json")

    compiled = {
        "BootstrapFewShot": dspy.BootstrapFewShot(
            metric=metric, max_bootstrapped_demos=2, max_labeled_demos=0, teacher_settings={"lm": teacher}
        ).compile(program, trainset=train),
        "MIPROv2": dspy.MIPROv2(
            metric=metric, prompt_model=teacher, auto=None, num_candidates=3, num_threads=THREADS
        ).compile(program.deepcopy(), trainset=train, valset=train, num_trials=4, minibatch=False,
                  max_bootstrapped_demos=0, max_labeled_demos=0),
        "GEPA": dspy.GEPA(
            metric=gepa_metric(explained, cost_weight=0.001), reflection_lm=teacher, max_metric_calls=60,
            component_selector="all",  # `extract` has no trace if no run ends by a limit
            num_threads=THREADS,
        ).compile(program, trainset=train, valset=train),
    }  # fmt: skip
    for name, result in compiled.items():
        scores[name] = evaluate(result).score
        result.save(directory / f"{name}.json")
        print(f"{name} learned {learned(result)}")
    best = max(compiled, key=lambda name: scores[name])

    for name, file in (("chain before", "before"), ("chain after", best)):
        chat = ChatRLM(model=root, prompt=str(directory / f"{file}.json"), limits=Limits(max_iterations=5),
                       context_threshold=1_000)  # fmt: skip
        scores[name] = chain_score(chat, test)
    return scores, directory / f"{best}.json"


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "optimised")
    target.mkdir(parents=True, exist_ok=True)
    result, file = main(target)
    print("\nRight answers on logs that no optimizer saw:")
    for title, score in result.items():
        print(f"{title:>18}: {score:5.1f} %")
    print(f"The chain uses ChatRLM(model=..., prompt={str(file)!r}); the files of the others are beside it.")
