"""Retrieval with 500 documents, which become a variable instead of a prompt: python rag_documents.py [FILE QUESTION].

The paragraphs of the file are the documents. RLM_MODEL names the inner model.
"""

import os
import re
import sys
from collections import Counter
from pathlib import Path

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from rlm_adapters import ChatRLM, context_block

BOOK = Path(__file__).parent / "data" / "origin-of-species.txt"


class KeywordRetriever(BaseRetriever):
    """Ranks documents by the words that they share with the question; any retriever can stand here."""

    documents: list[Document]
    k: int = 500

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        del run_manager
        asked = set(re.findall(r"\w+", query.lower()))

        def score(document: Document) -> int:
            words = Counter(re.findall(r"\w+", document.page_content.lower()))
            return sum(words[word] for word in asked)

        return sorted(self.documents, key=score, reverse=True)[: self.k]


def to_messages(given: dict) -> list[HumanMessage]:
    return [HumanMessage([context_block(given["documents"]), {"type": "text", "text": given["question"]}])]


path, question = sys.argv[1:] or (BOOK, "Which observations of bees does Darwin report, and who made them?")
paragraphs = Path(path).read_text().split("\n\n")
retriever = KeywordRetriever(
    documents=[Document(text, metadata={"paragraph": number}) for number, text in enumerate(paragraphs)]
)
model = ChatRLM(model=os.environ.get("RLM_MODEL", "openai:gpt-5-mini"))
chain = (
    {"documents": retriever, "question": RunnablePassthrough()}
    | RunnableLambda(to_messages)
    | model
    | StrOutputParser()
)

print(chain.invoke(question))
