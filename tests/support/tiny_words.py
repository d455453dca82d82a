"""A byte-level vocabulary small enough to embed in a test: 256 bytes, then one family's special tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

BYTES = 256
VOCABULARY = 320


@dataclass(frozen=True)
class Words:
    """The special tokens of a family: their order fixes their ids, processors read `named` as tokenizer attributes."""

    pad: str
    eos: str
    others: tuple[str, ...]
    bos: str | None = None
    named: dict[str, str] = field(default_factory=dict)

    @property
    def specials(self) -> tuple[str, ...]:
        return (self.pad, self.eos, *((self.bos,) if self.bos else ()), *self.others)

    def id(self, token: str) -> int:
        return BYTES + self.specials.index(token)

    def ids(self) -> dict[str, int | None]:
        """Keyword arguments every text config takes."""
        return {
            "vocab_size": VOCABULARY,
            "pad_token_id": self.id(self.pad),
            "eos_token_id": self.id(self.eos),
            "bos_token_id": self.id(self.bos) if self.bos else None,
        }

    def tokenizer(self) -> PreTrainedTokenizerFast:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        backend = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens(list(self.specials))
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            pad_token=self.pad,
            eos_token=self.eos,
            bos_token=self.bos,
            extra_special_tokens=self.named,
            padding_side="left",
        )


CHAT = """\
{{ START }}{% for message in messages %}\
{{ OPENING.replace('ROLE', USER if message['role'] == 'user' else message['role']) }}\
{% for part in message['content'] %}\
{% if part['type'] == 'image' %}{{ IMAGE }}\
{% elif part['type'] == 'video' %}{{ VIDEO }}\
{% else %}{{ part['text'] }}{% endif %}\
{% endfor %}{{ CLOSING }}{% endfor %}\
{% if add_generation_prompt %}{{ ANSWER }}{% endif %}"""


def chat(
    opening: str,
    image: str,
    video: str,
    closing: str,
    answer: str,
    start: str = "",
    user: str = "user",
) -> str:
    """A chat template: `start`, then for every message `opening` and its segments in their order and `closing`."""
    names = {
        "START": start,
        "OPENING": opening,
        "USER": user,
        "IMAGE": image,
        "VIDEO": video,
        "CLOSING": closing,
        "ANSWER": answer,
    }
    return "".join(f"{{% set {name} = {value!r} %}}" for name, value in names.items()) + CHAT
