"""Write rlm_adapters/models/prices.json from the price list that the installed litellm ships: ``make prices``.

Only list prices of the models' own makers are taken; litellm's whole list is used where it is installed.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
from pathlib import Path

from rlm_adapters.models.prices import BUNDLED, of_litellm

MAKERS = {
    "anthropic", "cohere", "cohere_chat", "dashscope", "deepseek", "gemini", "groq", "mistral", "moonshot", "openai",
    "perplexity", "vertex_ai-language-models", "xai", "zai",
}  # fmt: skip


def main() -> None:
    """Write the file."""
    prices = {
        name: [price.input, price.output]
        for name, price in sorted(of_litellm(lambda entry: entry.get("litellm_provider") in MAKERS).items())
    }
    record = {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "source": f"litellm {importlib.metadata.version('litellm')} (MIT), dollars per million tokens: [input, output]",
        "prices": prices,
    }
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(price)}" for name, price in prices.items())
    head = json.dumps({key: value for key, value in record.items() if key != "prices"}, indent=1)[:-2]
    Path(BUNDLED).write_text(f'{head},\n "prices": {{\n{lines}\n }}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
