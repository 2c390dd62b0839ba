"""Adapting Whisper to one speaker from its own first pass, by teacher forcing on the words that it heard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lhuc_asr.errors import AudioError, ModelError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.example import Example
from lhuc_asr.pretrained.loading import from_pretrained, import_transformers, prepared
from lhuc_asr.pretrained.updating import Adaptation, UpdateConfig, adapt


@dataclass(frozen=True, eq=False)
class TokenTarget:
    """What one utterance is believed to say.

    Attributes:
        tokens: (L,) token numbers without the prompt, with the end mark where the model gave one.
        end: number of the end mark.
    """

    tokens: Tensor
    end: int

    @property
    def is_empty(self) -> bool:
        """Whether there is no token but the end mark."""
        return bool((self.tokens == self.end).all())

    @property
    def num_terms(self) -> int:
        """Tokens that are to be predicted."""
        return len(self.tokens)


@dataclass(frozen=True)
class WhisperModel:
    """A ``WhisperForConditionalGeneration`` with its processor.

    Attributes:
        net: the module whose sites are scaled.
        processor: prepares waveforms and turns tokens into text.
        language: such as ``en``; None only for models of one language.
        max_new_tokens: the longest answer.
    """

    net: nn.Module
    processor: Any
    language: str | None = None
    max_new_tokens: int = 224
    prompt: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        net: Any = self.net
        if self.language is None and getattr(net.generation_config, "is_multilingual", False):
            raise ModelError("this Whisper knows many languages: say which one is spoken, such as language='en'")
        tokenizer = self.processor.tokenizer
        task = None if self.language is None else "transcribe"
        tokenizer.set_prefix_tokens(language=self.language, task=task, predict_timestamps=False)
        object.__setattr__(self, "prompt", tuple(tokenizer.prefix_tokens))

    @classmethod
    def load(cls, name_or_path: str, *, language: str | None = None) -> WhisperModel:
        """Such as ``openai/whisper-tiny``, or a folder where one was saved.

        Raises:
            ModelError: there is no such model.
            DependencyError: transformers is not installed.
        """
        transformers = import_transformers()
        net = from_pretrained(transformers.WhisperForConditionalGeneration, name_or_path)
        return cls(net.eval(), from_pretrained(transformers.WhisperProcessor, name_or_path), language)

    @property
    def sampling_rate(self) -> int:
        """Of the waveforms that it is fed."""
        return int(self.processor.feature_extractor.sampling_rate)

    def example(self, samples: Tensor) -> Example:
        """A call of encoder and decoder."""
        return Example(kwargs={"input_features": self._features(samples), "decoder_input_ids": self._row(self.prompt)})

    @torch.no_grad()
    def recognise(self, samples: Tensor) -> TokenTarget:
        """What the model hears as it is set now, greedily; attach an adapter around it.

        Sites of the encoder do not run when ``generate`` calls the whole net, so prove them on ``example`` first, as
        ``adapt_whisper`` does.
        """
        net: Any = self.net
        room = net.config.max_target_positions - len(self.prompt)
        out = net.generate(
            self._features(samples),
            decoder_input_ids=self._row(self.prompt),
            max_new_tokens=min(self.max_new_tokens, room),
            do_sample=False,
            return_dict_in_generate=True,
        )
        return self._target(out.sequences[0, len(self.prompt) :])

    def loss(self, samples: Tensor, target: TokenTarget) -> Tensor:
        """() cross-entropy of the target's tokens, each after those before it, summed."""
        history = torch.cat([self._row(self.prompt)[0], target.tokens[:-1].to(self._device)])
        logits = self.net(input_features=self._features(samples), decoder_input_ids=history[None]).logits[0]
        predicted = logits[len(self.prompt) - 1 :].float()
        return functional.cross_entropy(predicted, target.tokens.to(self._device), reduction="sum")

    def words(self, target: TokenTarget) -> str:
        """The tokens of a target as text."""
        return str(self.processor.tokenizer.decode(target.tokens, skip_special_tokens=True)).strip()

    def _target(self, tokens: Tensor) -> TokenTarget:
        """Up to and with the first end mark."""
        end = int(self.processor.tokenizer.eos_token_id)
        ends = (tokens == end).nonzero()
        kept = tokens[: int(ends[0]) + 1] if len(ends) else tokens
        return TokenTarget(kept.cpu(), end)

    def _features(self, samples: Tensor) -> Tensor:
        extractor = self.processor.feature_extractor
        if len(samples) > extractor.n_samples:
            raise AudioError(
                f"Whisper hears {extractor.n_samples / self.sampling_rate:g} s at a time, and an utterance has "
                f"{len(samples) / self.sampling_rate:.1f} s: divide it into segments"
            )
        return prepared(extractor, samples, self.sampling_rate, self.net)["input_features"]

    def _row(self, tokens: tuple[int, ...]) -> Tensor:
        return torch.tensor([tokens], device=self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.net.parameters()).device


def adapt_whisper(
    model: WhisperModel, adapter: LhucAdapter, utterances: Mapping[str, Tensor], config: UpdateConfig | None = None
) -> Adaptation[TokenTarget]:
    """Let Whisper learn one speaker's scales from what it recognises itself.

    Args:
        model: stays as it is.
        adapter: its r is trained in place; sites in the encoder, in the decoder, or in both.
        utterances: name -> (N,) samples, all of one speaker.
        config: how.

    Raises:
        SpeakerError: there are no utterances, nothing was recognised in any, or the loss is not finite.
        SiteError: a site does not act.
    """
    return adapt(model, adapter, utterances, config)
