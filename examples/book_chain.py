"""A ``prompt | model | parser`` chain over a whole book: python book_chain.py [BOOK QUESTION].

Without arguments it reads "On the Origin of Species". The chain is an ordinary one; only its model differs.
RLM_MODEL names the inner model (default openai:gpt-5-mini); OPENAI_API_KEY and OPENAI_BASE_URL are read as usual.
"""

import os
import sys
from pathlib import Path

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from rlm_adapters import ChatRLM

BOOK = Path(__file__).parent / "data" / "origin-of-species.txt"

prompt = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer from the book alone, in one sentence.\n\n{book}"),
        ("human", "{question}"),
    ]
)
model = ChatRLM(model=os.environ.get("RLM_MODEL", "openai:gpt-5-mini"))
chain = prompt | model | StrOutputParser()

path, question = sys.argv[1:] or (BOOK, "What does Darwin say about slave-making ants, and in which chapter?")
print(chain.invoke({"book": Path(path).read_text(), "question": question}))
