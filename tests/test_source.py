"""Source answers exactly what the dense weights say, at token and word level, without padding, and refuses the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import foveate as fv
from foveate.views.pooling import Pool, to_bytes
from foveate.views.source import MAX_SIDE, Source
from foveate.views.texts import script_of
from foveate.views.wire import dumps, pack, unpack
from foveate.views.words import Tokens, from_pieces

B, H, G, Q, K, D, V = 2, 6, 3, 7, 11, 5, 13


def random_map(
    batch: int = 1, queries: int = Q, keys: int = K, seed: int = 0, value: bool = True, **options: Any
) -> fv.AttentionMap:
    draw = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, H, queries, D, generator=draw)
    key = torch.randn(batch, G, keys, D, generator=draw)
    values = torch.randn(batch, G, keys, V, generator=draw) if value else None
    return fv.AttentionMap(query, key, value=values, **options)


def words(*sizes: int) -> Tokens:
    """Tokens in words of these sizes."""
    number = tuple(word for word, size in enumerate(sizes) for _ in range(size))
    return Tokens(tuple(f"t{i}" for i in range(len(number))), number, (False,) * len(number))


def by_word(dense: torch.Tensor, rows: Tokens, columns: Tokens) -> torch.Tensor:
    """(H, Q, K) -> (H, words, words) by the definition: the mean over a's tokens of the sum over b's."""
    out = torch.zeros(dense.shape[0], rows.word[-1] + 1, columns.word[-1] + 1)
    for a in range(out.shape[1]):
        for b in range(out.shape[2]):
            ia = [i for i, word in enumerate(rows.word) if word == a]
            ib = [j for j, word in enumerate(columns.word) if word == b]
            out[:, a, b] = dense[:, ia][:, :, ib].sum(2).mean(1)
    return out


@pytest.fixture
def cross() -> tuple[Source, torch.Tensor, Tokens, Tokens]:
    rows, columns = words(1, 3, 1, 2), words(2, 1, 4, 3, 1)
    weights = random_map()
    return Source({"cross_attn": weights}, columns, rows), weights[0], rows, columns


@pytest.mark.parametrize("index", range(Q))
def test_row_reads_is_the_dense_row(cross: Any, index: int) -> None:
    source, dense, _, _ = cross
    torch.testing.assert_close(source.row(0, 0, index, "reads", "token"), dense[:, index])


@pytest.mark.parametrize("index", range(K))
def test_row_read_by_is_the_dense_column(cross: Any, index: int) -> None:
    source, dense, _, _ = cross
    torch.testing.assert_close(source.row(0, 0, index, "read_by", "token"), dense[:, :, index])


def test_words_mean_over_queries_and_sum_over_keys(cross: Any) -> None:
    source, dense, rows, columns = cross
    expected = by_word(dense, rows, columns)
    for a in range(expected.shape[1]):
        torch.testing.assert_close(source.row(0, 0, a, "reads", "word"), expected[:, a])
    for b in range(expected.shape[2]):
        torch.testing.assert_close(source.row(0, 0, b, "read_by", "word"), expected[:, :, b])


def test_every_word_row_sums_to_one(cross: Any) -> None:
    source, _, rows, _ = cross
    for a in range(rows.word[-1] + 1):
        torch.testing.assert_close(source.row(0, 0, a, "reads", "word").sum(-1), torch.ones(H))


def test_topk_is_the_head_of_the_sorted_row_and_the_rest_what_is_left(cross: Any) -> None:
    source, dense, _, _ = cross
    indices, weights, rest = source.topk(0, 0, 3, "reads", "token", 4)
    expected = dense[:, 3].sort(dim=-1, descending=True)
    torch.testing.assert_close(weights, expected.values[:, :4])
    assert torch.equal(indices, expected.indices[:, :4])
    torch.testing.assert_close(rest, expected.values[:, 4:].sum(-1))


def test_topk_of_more_than_there_are_gives_all(cross: Any) -> None:
    source, _, _, _ = cross
    indices, _, rest = source.topk(0, 0, 0, "read_by", "word", 100)
    assert indices.shape == (H, 4)
    torch.testing.assert_close(rest, torch.zeros(H), atol=1e-6, rtol=0)


def pooled(dense: np.ndarray, height: int, width: int, how: str) -> np.ndarray:
    """The rule of docs/DESIGN.md, entry by entry."""
    rows, columns = dense.shape
    out = np.zeros((height, width), np.float32)
    for p in range(height):
        for q in range(width):
            r0, r1 = p * rows // height, -(-(p + 1) * rows // height)
            c0, c1 = q * columns // width, -(-(q + 1) * columns // width)
            out[p, q] = getattr(dense[r0:r1, c0:c1], how)()
    return out


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize(("height", "width"), [(Q, K), (3, 4), (1, 1), (9, 17), (14, 22), (7, 2)])
@pytest.mark.parametrize("level", ["token", "word"])
def test_tile_pools_the_dense_block(cross: Any, height: int, width: int, how: Any, level: Any) -> None:
    source, dense, rows, columns = cross
    block = dense if level == "token" else by_word(dense, rows, columns)
    tile = source.tile(0, 0, 2, 1, block.shape[1], 1, block.shape[2], height, width, how, level)
    expected = pooled(block[2, 1:, 1:].numpy(), height, width, how)
    assert tile.peak == pytest.approx(expected.max(), rel=1e-5)
    assert np.abs(tile.pixels / 255 * tile.peak - expected).max() <= tile.peak / 255 * 0.51


def test_a_pool_does_not_care_how_rows_are_cut() -> None:
    block = np.random.default_rng(0).random((2, 23, 31), dtype=np.float32)
    for how in ("max", "mean"):
        whole, parts = Pool(2, 23, 31, 5, 7, how), Pool(2, 23, 31, 5, 7, how)  # type: ignore[arg-type]
        whole.update(0, block)
        for first, last in [(3, 20), (0, 2), (2, 3), (20, 23)]:
            parts.update(first, block[:1, first:last, 9:], 9, slice(0, 1))
            parts.update(first, block[:1, first:last, :9], heads=slice(0, 1))
            parts.update(first, block[1:, first:last], 0, slice(1, 2))
        np.testing.assert_allclose(parts.result(), whole.result(), rtol=1e-6)


def test_bytes_of_nan_and_nothing_are_zero() -> None:
    pixels, peaks = to_bytes(np.array([[[np.nan, 0.5]], [[0, 0]]], np.float32))
    assert pixels.tolist() == [[[0, 255]], [[0, 0]]]
    assert peaks.tolist() == [0.5, 0.0]


@pytest.mark.filterwarnings("error")
def test_bytes_of_the_smallest_weights() -> None:
    pixels, _ = to_bytes(np.array([[[0, 1e-44, 2e-44]]], np.float32))
    assert pixels.tolist() == [[[0, 128, 255]]]


def test_thumbnails_show_every_head_and_its_entropy(cross: Any) -> None:
    source, dense, _, _ = cross
    found = source.thumbnails(0, 0)
    assert found.pixels.shape == (H, K, K)
    np.testing.assert_allclose(found.peak, dense.amax((1, 2)).numpy(), rtol=1e-6)
    entropy = -(dense.double() * dense.double().log()).sum(-1).mean(-1)
    np.testing.assert_allclose(found.entropy, entropy.numpy(), rtol=1e-5)
    assert source.thumbnails(0, 0) is found


def test_thumbnails_of_a_long_causal_call_are_those_of_the_dense_weights() -> None:
    """Long enough for several blocks, some of them dead, and pixels that share rows."""
    query = torch.randn(1, H, 1100, D, generator=torch.Generator().manual_seed(5))
    weights = fv.AttentionMap(query, query[:, ::2], mask=fv.masks.causal() & fv.masks.window(300))
    found = Source({"attn": weights}).thumbnails(0, 0)
    dense = weights.dense()[0]
    for head in range(H):
        expected = pooled(dense[head].numpy(), 32, 32, "max")
        assert np.abs(found.pixels[head] / 255 * found.peak[head] - expected).max() <= found.peak[head] / 255 * 0.51
    entropy = torch.special.entr(dense.double()).sum(-1).mean(-1)
    np.testing.assert_allclose(found.entropy, entropy.numpy(), rtol=1e-5)


def test_pair_adds_up(cross: Any) -> None:
    source, dense, _, _ = cross
    pair = source.pair(0, 0, 4, 2, 9)
    assert pair["score"] == pytest.approx(sum(pair["products"]), rel=1e-5)
    assert pair["scaled"] == pytest.approx(pair["score"] * pair["scale"], rel=1e-5)
    assert pair["weight"] == pytest.approx(np.exp(pair["scaled"] - pair["logsumexp"]), rel=1e-4)
    assert pair["weight"] == pytest.approx(float(dense[4, 2, 9]), rel=1e-5)
    np.testing.assert_allclose(pair["contribution"], np.multiply(pair["value"], pair["weight"]), rtol=1e-4)
    assert pair["score_name"] == "scaled_dot"
    dumps(pair)


def test_a_blocked_pair_is_json_too() -> None:
    weights = random_map(queries=K, mask=fv.masks.causal() & fv.masks.where(lambda b, h, q, k: q != 0))
    pair = Source({"attn": weights}).pair(0, 0, 0, 0, 3)
    assert pair["allowed"] is False
    assert pair["weight"] == 0
    assert pair["logsumexp"] is None
    dumps(pair)


def test_half_precision_recordings_answer_in_float32() -> None:
    full = random_map()
    half = fv.AttentionMap(full.query.half(), full.key.half())
    row = Source({"attn": half}).row(0, 0, 1, "reads", "token")
    exact = fv.AttentionMap(full.query.half().float(), full.key.half().float())[0, :, 1]
    torch.testing.assert_close(row, exact, rtol=1e-6, atol=1e-7)


class Batch(dict[str, Any]):
    """A mapping that knows its padding, as a recording does."""

    def __init__(self, maps: dict[str, Any], **about: Any) -> None:
        super().__init__(maps)
        for name, value in about.items():
            setattr(self, name, value)


@pytest.mark.parametrize("starts", [[0, 0], [3, 0]])
def test_padding_is_no_part_of_a_sequence(starts: list[int]) -> None:
    lengths = [4, 7]
    mask = torch.zeros(B, 1, 1, Q, dtype=torch.bool)
    for b in range(B):
        mask[b, ..., starts[b] : starts[b] + lengths[b]] = True
    weights = random_map(B, Q, Q, mask=mask)
    source = Source(Batch({"attn": weights}, lengths=lengths, starts=starts))
    dense = weights[0, :, starts[0] : starts[0] + 4, starts[0] : starts[0] + 4]
    assert len(source.document().sequences[0].source) == 4
    torch.testing.assert_close(source.row(0, 0, 1, "reads", "token"), dense[:, 1])
    torch.testing.assert_close(source.row(0, 0, 1, "reads", "token").sum(-1), torch.ones(H))
    torch.testing.assert_close(source.row(0, 0, 2, "read_by", "token"), dense[:, :, 2])
    pair = source.pair(0, 0, 1, 2, 3)
    assert pair["weight"] == pytest.approx(float(dense[1, 2, 3]), rel=1e-5)
    np.testing.assert_allclose(source.thumbnails(0, 0).peak, dense.amax((1, 2)).numpy(), rtol=1e-6)
    with pytest.raises(ValueError, match="query 4 is outside this call, which has 4 query tokens"):
        source.row(0, 0, 4, "reads", "token")


@pytest.mark.parametrize(("start", "length"), [(0, -3), (9, 5), (-1, 5), (0, K + 1)])
def test_texts_lie_inside_the_maps(start: int, length: int) -> None:
    with pytest.raises(ValueError, match=f"lies outside its {K} positions: {length} from {start}"):
        Source(Batch({"attn": random_map(1, K, K)}, lengths=[length], starts=[start]), [f"t{i}" for i in range(K)])


def test_steps_of_a_generation_count_their_tokens_from_the_offset() -> None:
    prompt = random_map(1, Q, Q, mask=fv.masks.causal())
    step = random_map(1, 1, Q + 1, seed=1)
    tokens = words(2, 3, 2, 2)
    source = Source({"attn": [prompt, step]}, tokens)  # the last token was made, but never attended to
    calls = source.document().calls
    assert [(call.step, call.kind, call.offset) for call in calls] == [(0, "decoder", 0), (1, "decoder", Q)]
    assert len(source.document().sequences[0].source) == Q + 1
    torch.testing.assert_close(source.row(1, 0, 0, "reads", "token"), step[0, :, 0])
    torch.testing.assert_close(source.row(1, 0, 0, "read_by", "word")[:, 0], step[0, :, 0, :2].sum(-1))


def test_causal_maps_are_decoders_and_others_encoders() -> None:
    calls = Source({"a": random_map(1, Q, Q, mask=fv.masks.causal()), "b": random_map(1, Q, Q)}).document().calls
    assert [(call.kind, call.causal, call.label) for call in calls] == [
        ("decoder", True, "layer 0"),
        ("encoder", False, "layer 0"),
    ]


def test_words_of_a_later_step_are_counted_from_its_first_token() -> None:
    from foveate.views.axes import Axis

    axis = Axis(words(2, 3, 2), 4, 3, "query")  # the last token of word 1, and word 2
    assert axis.words == (0, 1, 1)
    assert axis.size("word") == 2
    assert axis.span(1, 2, "word") == (1, 3)


@pytest.mark.parametrize(
    ("question", "arguments", "sentence"),
    [
        ("row", (1, 0, 0, "reads", "token"), "call 1 does not exist; this document has calls 0 to 0"),
        ("row", (0, 1, 0, "reads", "token"), "sequence 1 does not exist"),
        ("row", (0, 0, K, "read_by", "token"), "key 11 is outside this call, which has 11 key tokens"),
        ("row", (0, 0, -1, "reads", "token"), "query -1 is outside this call"),
        ("row", (0, 0, 4, "reads", "word"), "query 4 is outside this call, which has 4 query words"),
        ("row", (0, 0, True, "reads", "token"), "index must be a whole number; got bool"),
        ("row", (0, 0, 0, "sideways", "token"), "direction must be one of 'reads', 'read_by'"),
        ("row", (0, 0, 0, "reads", "letter"), "level must be one of 'token', 'word'"),
        ("topk", (0, 0, 0, "reads", "token", 0), "k must be from 1 to 4096; got 0"),
        ("tile", (0, 0, H, 0, 1, 0, 1, 1, 1), "head 6 does not exist; this call has heads 0 to 5"),
        ("tile", (0, 0, 0, 2, 2, 0, 1, 1, 1), "the query range 2:2 is outside this call"),
        ("tile", (0, 0, 0, 0, 1, 0, K + 1, 1, 1), "the key range 0:12 is outside this call"),
        ("tile", (0, 0, 0, 0, 1, 0, 1, MAX_SIDE + 1, 1), "height must be from 1 to 2048 pixels; got 2049"),
        ("tile", (0, 0, 0, 0, 1, 0, 1, 1, 1, "median"), "how must be one of 'max', 'mean'"),
        ("pair", (0, 0, 0, Q, 0), "query 7 is outside this call"),
        ("thumbnails", (0, 7), "sequence 7 does not exist"),
    ],
)
def test_broken_rules_are_stated(cross: Any, question: str, arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        getattr(cross[0], question)(*arguments)


def test_tokens_must_fit() -> None:
    with pytest.raises(ValueError, match="tokens must have one entry for each position of the maps, 7; got 3"):
        Source({"attn": random_map(1, Q, Q)}, ["a", "b", "c"])
    with pytest.raises(ValueError, match="tokens must list one sequence for each of the batch, 2; got 1"):
        Source({"attn": random_map(2, Q, Q)}, list("abcdefg"))
    with pytest.raises(ValueError, match="the recording is empty"):
        Source({})
    with pytest.raises(ValueError, match="same batch size"):
        Source({"a": random_map(1), "b": random_map(2)})


def test_maps_with_fewer_axes_are_shown_too() -> None:
    output, weights = fv.attention(np.ones((3, D)), np.ones((K, D)), np.ones((K, V)))
    assert output.shape == (3, V)
    row = Source({"attn": weights}).row(0, 0, 2, "reads", "token")
    torch.testing.assert_close(row, torch.full((1, K), 1 / K))


@pytest.mark.parametrize(
    ("pieces", "text", "word", "special"),
    [
        ("[CLS] play ##ing . [SEP]", "[CLS] play ing . [SEP]", [0, 1, 1, 2, 3], [0, 4]),
        ("The Ġcat s at . <|endoftext|>", "The cat s at . <|endoftext|>", [0, 1, 1, 1, 2, 3], [5]),
        ("▁The ▁c ats . </s>", "The c ats . </s>", [0, 1, 1, 2, 3], [4]),
        ("the</w> c at</w> .</w>", "the c at .", [0, 1, 1, 2], []),
        ("one two", "one two", [0, 1], []),
        ("ĠnaÃ¯ve Ċ", "naïve ⏎", [0, 1], []),
        ("a </script>", "a </script>", [0, 1], []),
        ("ÐŁÑĢ Ð¸", "Пр и", [0, 1], []),
    ],
)
def test_words_by_the_marks_of_each_tokenizer(pieces: str, text: str, word: list[int], special: list[int]) -> None:
    tokens = from_pieces(pieces.split())
    assert list(tokens.text) == text.split()
    assert list(tokens.word) == word
    assert [i for i, flag in enumerate(tokens.special) if flag] == special


@pytest.mark.parametrize(
    "pieces",
    [["Ġa", "ä½", "ł", "åĽ", "½!"], ["▁a", "<0xE4>", "<0xBD>", "<0xA0>", "国!"]],
)
def test_a_character_in_several_tokens_is_that_of_the_first(pieces: list[str]) -> None:
    text = list(from_pieces(pieces).text)
    assert "".join(text) == "a你国!" and text[1] == "你" and "" in text


def test_bytes_that_are_no_character_read_so() -> None:
    assert from_pieces(["Ġa", "½", "Ġb"]).text == ("a", "\ufffd", "b")
    assert from_pieces(["café", "né"]).text == ("café", "né")


def test_word_numbers_are_checked() -> None:
    with pytest.raises(ValueError, match="grow by at most one; got 2 after 0"):
        Tokens(("a", "b"), (0, 2), (False, False))
    with pytest.raises(ValueError, match="one word number and one special flag each"):
        Tokens(("a", "b"), (0,), (False, False))


def test_left_padded_generations_keep_one_count_of_positions() -> None:
    maps = Batch({}, lengths=[2, 3], starts=[1, 0])
    from foveate.views.document import Call

    call = Call(0, "attn", "layer 0", 1, "decoder", H, 1, 4, "source", "source", 3, True, D, False, "dot")
    script = script_of(maps, [call], 2, [["a", "b"], ["c", "d", "e"]], None)
    assert [texts.source.text for texts in script.texts] == [("·", "a", "b"), ("c", "d", "e")]
    assert script.starts["source"] == [0, 0]


def test_frames_survive_the_wire() -> None:
    header, body = unpack(pack({"heads": 2, "word": "é"}, np.arange(3, dtype=np.float32)))
    assert header == {"heads": 2, "word": "é"}
    assert np.frombuffer(body, "<f4").tolist() == [0, 1, 2]
    assert (len(pack({"a": 1}, np.zeros(0, np.uint8)))) % 4 == 0
    with pytest.raises(TypeError, match="uint8 or float32; got float64"):
        pack({}, np.zeros(1))
