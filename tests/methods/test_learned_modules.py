"""The modules of the trained systems against plain transcriptions, and gradients through them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, Qwen2Config, Qwen3Config

from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry
from framefusion.core.ops.kmeans import first_nearest
from framefusion.methods.llava_mini import CompressAndFuse, QueryCompressor
from framefusion.methods.pvc import TemporalBlock, TemporalShuffle
from framefusion.methods.vqtoken import NOBODY, CodeAttention, DynamicAttention, cluster_maps, frame_maps, typical
from framefusion.models.decoder_layers import decoder_layers, described, through
from tests.reference.llava_mini import compressed, llama_layer, projected
from tests.reference.pvc import shuffled, temporal_block
from tests.reference.vqtoken import code_attention, dynamic_attention

EPS, THETA = 1e-5, 10_000.0


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with all of its parameters drawn, so that no term of it is zero or one."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(0.3 * torch.randn(value.shape, generator=draw))
    return module.eval()


def lists(module: nn.Module, prefix: str = "") -> dict:
    state = {name.removeprefix(prefix): value for name, value in module.state_dict().items() if name.startswith(prefix)}
    return {name: value.double().tolist() for name, value in state.items()}


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_like(found: torch.Tensor, wanted: list) -> None:
    torch.testing.assert_close(found.detach().double(), torch.tensor(wanted, dtype=torch.float64), atol=1e-5, rtol=1e-5)


def assert_all_learn(module: nn.Module, out: torch.Tensor, but: tuple[str, ...] = ()) -> None:
    out.square().sum().backward()
    silent = [name for name, value in module.named_parameters() if value.grad is None or not bool(value.grad.any())]
    assert [name for name in silent if not name.endswith(but or ("-",))] == []


def small_llama(**changes) -> LlamaConfig:
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}
    return LlamaConfig(**(sizes | {"num_key_value_heads": 1, "vocab_size": 50, "rms_norm_eps": EPS} | changes))


@pytest.mark.parametrize("frames", [1, 3, 7])
def test_code_attention_is_its_transcription(frames):
    module = drawn(CodeAttention(6, 8, heads=2, feedforward=5))
    maps, means = (noise(frames, 6) * 3).round(), noise(5, 8, seed=2)
    assert_like(module(maps, means), code_attention(lists(module), maps.tolist(), means.tolist(), 2))
    assert_all_learn(module, module(maps, means), but=("k_proj.bias", "in_proj_bias") if frames == 1 else ())


def test_attention_of_clusters_is_its_transcription():
    module = drawn(DynamicAttention(6, 8, heads=2, feedforward=5))
    maps, means = noise(4, 6), noise(4, 8, seed=2)
    assert_like(module(maps, means), dynamic_attention(lists(module), maps.tolist(), means.tolist(), 2))
    assert_all_learn(module, module(maps, means))
    assert torch.equal(DynamicAttention(6, 8, 2, 5)(maps, means), means)


@pytest.mark.parametrize("depth", [1, 3])
def test_attention_to_finer_clusters_is_its_transcription(depth):
    module = drawn(DynamicAttention(6, 8, heads=2, feedforward=11, depth=depth, finer=True))
    maps, means, codes = noise(3, 6), noise(3, 8, seed=2), (noise(7, 6, seed=3), noise(7, 8, seed=4))
    wanted = dynamic_attention(lists(module), maps.tolist(), means.tolist(), 2, (codes[0].tolist(), codes[1].tolist()))
    assert_like(module(maps, means, codes), wanted)
    assert_all_learn(module, module(maps, means, codes))


def test_maps_of_clusters_say_when_they_were_where():
    geometry = Geometry.grid(4, 1, 2)
    label = torch.tensor([0, 1, 0, 1, 2, 1, 0, 2])
    found = cluster_maps(geometry, label, places=2, spans=2)
    assert found.tolist() == [[1.0, 0.0, 0.5, 0.0], [0.0, 1.0, 0.0, 0.5], [0.0, 0.0, 0.5, 0.5]]
    alone = cluster_maps(geometry, label, places=2, spans=8)
    assert alone.shape == (3, 16) and alone.sum() == 8


def test_a_cluster_begins_at_its_first_typical_token():
    likeness, label = torch.tensor([0.1, 0.9, 0.8, 1.0, 0.7, 0.7]), torch.tensor([0, 0, 1, 0, 1, 1])
    marked = typical(likeness, label, 2)
    assert marked.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert first_nearest(marked, label).tolist() == [1, 1, 2, 1, 2, 2]


@pytest.mark.parametrize(("side", "grid"), [(1, (3, 3)), (2, (2, 2)), (2, (3, 4)), (3, (2, 2))])
def test_the_compressor_is_its_transcription(side, grid):
    module = drawn(QueryCompressor(side, 8, heads=2))
    patches, count = noise(grid[0] * grid[1], 8), grid[0] * grid[1]
    found = module(patches[None], grid, torch.arange(count))
    assert_like(found[0], compressed(lists(module), patches.tolist(), *grid, side, 2))
    some = torch.tensor([0, count - 1])
    assert module(patches[None, some], grid, some).shape == found.shape
    assert_all_learn(module, found)


def test_pre_fusion_layers_are_their_transcription():
    layers = drawn(decoder_layers(described(small_llama(rope_theta=THETA)), 2))
    states = noise(5, 8)
    wanted = states.tolist()
    for number in range(2):
        wanted = llama_layer(lists(layers, f"layers.{number}."), wanted, 2, THETA, EPS)
    assert_like(through(layers, states[None])[0], wanted)


def test_pictures_compressed_and_fused_are_their_transcription():
    module = drawn(CompressAndFuse(2, 2, 8, 8, decoder_layers(described(small_llama(rope_theta=THETA)), 1)))
    patches, hidden, text = noise(9, 8), noise(9, 8, seed=2), noise(3, 8, seed=3)
    tokens, words = module(patches[None], ((3, 3), torch.arange(9)), hidden[None], text)
    found = torch.cat([tokens[0], words[0]])
    few = compressed(lists(module, "compressor."), patches.tolist(), 3, 3, 2, 2)
    few = [projected(lists(module, "mm_projector."), one) for one in few]
    sequence = [*hidden.tolist(), *few, *text.tolist()]
    fused = llama_layer(lists(module, "prefusion.layers.0."), sequence, 2, THETA, EPS)
    assert_like(found, fused[9:])
    assert_all_learn(module, found)


@pytest.mark.parametrize("config", [Qwen2Config, Qwen3Config, LlamaConfig])
def test_pre_fusion_layers_are_of_the_models_own_class(config):
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}
    own = config(**sizes, num_key_value_heads=1, vocab_size=50)
    layers = decoder_layers(described(own), 2)
    assert type(layers.layers[0]).__name__ == f"{config.__name__.removesuffix('Config')}DecoderLayer"
    assert sum(name.startswith("embed") for name, _ in layers.named_parameters()) == 0
    assert through(layers, noise(1, 4, 8)).shape == (1, 4, 8)


@pytest.mark.parametrize(
    "settings", ["", "{}", "[]", '{"model_type": "no_such"}', '{"model_type": "llama", "hidden_size": -1}']
)
def test_layers_of_nothing_are_refused(settings):
    with pytest.raises(OptionError, match="no decoder layers"):
        decoder_layers(settings, 1)


def test_the_temporal_block_is_its_transcription():
    module = drawn(TemporalBlock(4, heads=2))
    grid, there = noise(3, 2, 4), torch.tensor([[True, False], [True, True], [False, True]])
    wanted = temporal_block(lists(module), grid.tolist(), there.tolist(), 2)
    assert_like(module(grid, there), wanted)


def test_a_new_temporal_block_changes_nothing():
    grid, there = noise(4, 3, 8), torch.ones(4, 3, dtype=torch.bool)
    assert torch.equal(TemporalBlock(8, 2)(grid, there), grid)


def test_a_frame_changes_later_ones_at_its_place_alone():
    grid, there = noise(4, 3, 8), torch.ones(4, 3, dtype=torch.bool)
    module, changed = drawn(TemporalBlock(8, 2)), grid.clone()
    changed[2, 1] = noise(8, seed=5)
    differs = (module(grid, there) != module(changed, there)).any(-1)
    assert differs.tolist() == [[False] * 3] * 2 + [[False, True, False]] * 2


@pytest.mark.parametrize(("rows", "columns"), [(2, 4), (3, 5)])
def test_blocks_and_shuffle_are_their_transcription(rows, columns):
    module = drawn(TemporalShuffle(1, 2, 2, 4, 6))
    grid, there = noise(2, rows, columns, 4), torch.ones(2, rows, columns, dtype=torch.bool)
    flat = temporal_block(lists(module, "blocks.0."), grid.flatten(1, 2).tolist(), there.flatten(1).tolist(), 2)
    pictures = [[one[r * columns : (r + 1) * columns] for r in range(rows)] for one in flat]
    found = module(grid, there)
    assert_like(found, [shuffled(lists(module, "projector."), one, 2) for one in pictures])
    assert_all_learn(module, found)


def test_maps_of_frames_follow_places():
    geometry = Geometry.grid(2, 2, 3)
    label = torch.arange(12)
    assert frame_maps(geometry, label, 6).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert frame_maps(geometry, label, 16)[0].view(4, 4)[:, 0].tolist() == [0, 0, 3, 3]
    assert frame_maps(geometry, label, 5).shape == (2, 5)
    without = frame_maps(geometry[torch.tensor([0, 1, 3, 4, 5, 6, 11])], torch.arange(7), 6)
    assert without.tolist() == [[0, 1, NOBODY, 2, 3, 4], [5, NOBODY, NOBODY, NOBODY, NOBODY, 6]]
