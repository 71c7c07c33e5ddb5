import numpy as np
import pytest

from nasnet_zoo.data.text import END, UNKNOWN, open_text, rows_of

PTB = {
    "train": " aer banknote <unk> N years \n aer said <unk> \n",
    "valid": " N banknote never \n",
    "test": " years \n",
}


@pytest.fixture
def ptb(tmp_path):
    for part, text in PTB.items():
        (tmp_path / f"ptb.{part}.txt").write_text(text)
    return tmp_path


def words(text, part):
    return [text.vocabulary[number] for number in getattr(text, part)]


def test_penn_treebank_is_read_as_it_is(ptb):
    text = open_text(ptb)
    assert " ".join(words(text, "train")) == "aer banknote <unk> N years <eos> aer said <unk> <eos>"
    assert words(text, "valid") == ["N", "banknote", UNKNOWN, END]
    assert words(text, "test") == ["years", END]
    # Words that occur once are known: Penn Treebank's vocabulary is given.
    assert len(text.vocabulary) == 7
    assert text.train.dtype == np.int32


def test_characters_of_penn_treebank(ptb):
    text = open_text(ptb, "characters")
    assert "".join(words(text, "train")).replace(UNKNOWN, "?").startswith(" aer ?ankn")


def test_words_of_a_file_are_split_from_punctuation_and_rare_ones_are_unknown(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("One word, one word.\n\n" * 40 + "Rare\n" + "one word.\n" * 40)
    text = open_text(path)
    assert words(text, "train")[:7] == ["One", "word", ",", "one", "word", ".", END]
    assert "Rare" not in text.vocabulary
    assert UNKNOWN in words(text, "train")
    assert set(text.vocabulary) == {"One", "one", "word", ",", ".", END, UNKNOWN}
    # The most frequent first.
    counts = np.bincount(text.train)
    assert (np.diff(counts[:-1]) <= 0).all()


def test_a_file_is_divided_in_order(tmp_path):
    path = tmp_path / "digits.txt"
    path.write_text("".join(str(k // 100) for k in range(1000)))
    text = open_text(path, "characters")
    assert words(text, "train") == [str(k // 100) for k in range(800)]
    assert len(text.valid) == len(text.test) == 100
    assert set(words(text, "valid")) == {UNKNOWN}


def test_the_vocabulary_has_a_limit(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("a b c d a b c a b a " * 20)
    text = open_text(path, vocabulary=3)
    assert text.vocabulary == ("a", "b", UNKNOWN)
    assert words(text, "train")[:4] == ["a", "b", UNKNOWN, UNKNOWN]


@pytest.mark.parametrize("level", ["words", "characters"])
def test_the_text_of_python_is_split_honestly(level):
    text = open_text("pydoc", level)
    sizes = np.array([len(text.train), len(text.valid), len(text.test)])
    np.testing.assert_allclose(sizes / sizes.sum(), [0.8, 0.1, 0.1], atol=0.05)
    assert sizes.sum() > 50_000
    assert np.mean(text.valid == text.vocabulary.index(UNKNOWN)) < 0.15
    if level == "characters":
        paragraphs = {
            part: {" ".join(p.split()) for p in "".join(words(text, part)).split("\n\n")}
            for part in ("train", "valid", "test")
        }
        assert not paragraphs["train"] & (paragraphs["valid"] | paragraphs["test"])
        assert not paragraphs["valid"] & paragraphs["test"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"the\n" * 25, "different words that occur twice .* Received: 1 different words in all"),
        (b"", "expected text to train on. Received: nothing"),
        (b" \n\n ", "expected text to train on. Received: nothing"),
        (b"\xff\xfe\x00", "expected a text. Received: bytes that are no text"),
        (b"a b c d e f g", "different words that occur twice .* Received: 5 different words in all"),
        (b"the", "expected text to test on. Received: nothing"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "some.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        open_text(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_vocabulary_of_one_word_is_refused(ptb):
    (ptb / "ptb.train.txt").write_text("".join(["x"] * 5))
    with pytest.raises(ValueError, match="expected at least two different characters"):
        open_text(ptb, "characters")


def test_a_missing_part_is_named(ptb):
    (ptb / "ptb.valid.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"ptb\.valid\.txt: expected a text. Received: no such"):
        open_text(ptb)
    with pytest.raises(FileNotFoundError, match="no-such: expected a text"):
        open_text("no-such")


def test_rows_go_on_where_the_one_before_ends():
    rows = rows_of(np.arange(23, dtype=np.int32), 3, 5)
    np.testing.assert_array_equal(rows, [range(7), range(7, 14), range(14, 21)])
    with pytest.raises(ValueError, match=r"at least 24 tokens, .* 3 rows of 7 .*: 23 tok"):
        rows_of(np.arange(23, dtype=np.int32), 3, 7)
