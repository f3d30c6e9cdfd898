"""A ``prompt | model | parser`` chain over a whole book: python book_chain.py BOOK QUESTION.

The chain is the one that everybody writes; only the model in it is another. RLM_MODEL names the inner model
(default openai:gpt-5-mini); OPENAI_API_KEY and OPENAI_BASE_URL are read as usual.
"""

import os
import sys
from pathlib import Path

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from rlm_adapters import ChatRLM

prompt = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer from the book alone, in one sentence.\n\n{book}"),
        ("human", "{question}"),
    ]
)
model = ChatRLM(model=os.environ.get("RLM_MODEL", "openai:gpt-5-mini"))
chain = prompt | model | StrOutputParser()

print(chain.invoke({"book": Path(sys.argv[1]).read_text(), "question": sys.argv[2]}))
