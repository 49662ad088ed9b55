"""JSON, TOML and text of somebody else: bounded in size and depth, no key twice, one line for every refusal."""

import gzip
import json
import re
import zlib
from functools import partial

import pytest

from chessrnn.model.config import load_config
from chessrnn.model.config_values import parse_setting
from chessrnn.model.errors import InvalidFileError, InvalidValueError, UserError
from chessrnn.model.presets import preset
from chessrnn.model.text_file import MAX_CONFIG_BYTES, parse_json, read_bytes, read_json, read_text, read_toml

DIGITS = "9" * 5000

# Content of a configuration file → what is wrong with it.
JSON = [
    ("[" * 10000 + "]" * 10000, "must not be nested so deeply"),
    ('{"network": ' * 5000 + "1" + "}" * 5000, "must not be nested so deeply"),
    (f'{{"network": {{"input_size": {DIGITS}}}}}', "must be made of short numbers: Exceeds the limit"),
    ('{"network": {"input_size": 4, "hidden_size": 8, "input_size": 5}}', "not 'input_size' twice"),
    ('{"name": "a", "name": "b"}', "must have every key once in an object, not 'name' twice"),
    ("{", "must be valid JSON: "),
    ("", "must be valid JSON: "),
    ("\ufeff{}", "must be valid JSON: "),
    (" " * (MAX_CONFIG_BYTES + 1), f"must be a file of at most {MAX_CONFIG_BYTES} bytes, not a larger one"),
]
TOML = [
    ("a = " + "[" * 10000 + "]" * 10000, "must not be nested so deeply"),
    ("a = " + "{a=" * 5000 + "1" + "}" * 5000, "must not be nested so deeply"),
    (f"a = {DIGITS}", "must be valid TOML: Exceeds the limit"),
    ("a = 1\na = 2", "must be valid TOML: "),
    ("= 1", "must be valid TOML: "),
    (" " * (MAX_CONFIG_BYTES + 1), f"must be a file of at most {MAX_CONFIG_BYTES} bytes, not a larger one"),
]


def check_refused(call, text: str):
    with pytest.raises(UserError, match=re.escape(text)) as caught:
        call()
    assert "\n" not in str(caught.value)
    # The file's own name is not part of what is limited.
    assert len(re.sub(r"/\S+/", "", str(caught.value))) < 200


@pytest.mark.parametrize(
    ("suffix", "content", "text"), [(".json", *row) for row in JSON] + [(".toml", *row) for row in TOML]
)
def test_configuration_files(suffix, content, text, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_text(content, encoding="utf-8")
    check_refused(lambda: load_config(path), text)
    with pytest.raises(InvalidFileError):
        (read_toml if suffix == ".toml" else lambda p: read_json(p, MAX_CONFIG_BYTES))(path)


# What the parser takes and the configuration must refuse, in a short line.
VALUES = [
    ("[" + ",".join(["7"] * 9000) + "]", "network.input_size must be an integer, not [7, 7, "),
    ('"' + "x" * 50000 + '"', "network.input_size must be an integer, not 'xxx"),
    ("[" * 900 + "]" * 900, "network.input_size must be an integer, not "),
    ('{"' + "k" * 50000 + '": 1}', "network.input_size must be an integer, not {'kkk"),
    ("1e999", "network.input_size must be an integer, not inf"),
    ("NaN", "network.input_size must be an integer, not nan"),
    ("9" * 4000, "network.input_size must be from 1 to 65536, not 999"),
    ("-" + "9" * 4000, "network.input_size must be from 1 to 65536, not -999"),
]


@pytest.mark.parametrize(("value", "text"), VALUES, ids=range(len(VALUES)))
def test_huge_values_in_a_configuration(value, text, tmp_path):
    (tmp_path / "a.json").write_text(f'{{"network": {{"hidden_size": 8, "input_size": {value}}}}}')
    check_refused(lambda: load_config(tmp_path / "a.json"), text)
    check_refused(lambda: preset("tiny").replace(dict([parse_setting(f"network.input_size={value}")])), text)


def test_huge_names_in_a_configuration(tmp_path):
    key = "k" * 50000
    for content in (f'{{"{key}": 1}}', f'{{"network": {{"{key}": 1}}}}'):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(InvalidValueError, match=r"k\.\.\.k+ must be one of .*, not an unknown key$") as caught:
            load_config(tmp_path / "a.json")
        assert len(str(caught.value)) < 300
    for path in (key, f"network.{key}", f"{key}.{key}", f"name.{key}", "a." * 20000 + "b"):
        settings = dict([parse_setting(f"{path}=1")])
        check_refused(partial(preset("tiny").replace, settings), "must be a field of the configuration")
    check_refused(lambda: parse_setting(key), "--set must be of the form section.field=value, not 'kkk")
    check_refused(lambda: preset("tiny").replace({"name": "n" * 129}), "name must be at most 128 characters long, not ")
    assert preset("tiny").replace({"name": "n" * 128}).name == "n" * 128


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("[" * 20000 + "]" * 20000, "network.input_size must not be nested so deeply"),
        (DIGITS, "network.input_size must be made of short numbers: Exceeds the limit"),
        ('{"a": 1, "a": 2}', "network.input_size must have every key once in an object, not 'a' twice"),
    ],
)
def test_settings(value, text):
    check_refused(lambda: parse_setting(f"network.input_size={value}"), text)


def test_settings_that_are_no_json_are_strings():
    assert parse_setting("network.cell=gru") == ("network.cell", "gru")
    assert parse_setting('network.cell={"a": [1, 2.5, null]}') == ("network.cell", {"a": [1, 2.5, None]})


def test_what_cannot_be_read(tmp_path):
    readers = (read_text, read_json, read_toml, load_config, lambda path: read_bytes(path, 10))
    for reader in readers:
        for path, text in (
            (tmp_path, "Is a directory"),
            (tmp_path / "missing", "No such file or directory"),
            (tmp_path / ("a" * 300), "File name too long"),
            (tmp_path / "a\0b", "embedded null byte"),
        ):
            if reader is readers[-1] and "\0" in str(path):
                continue
            with pytest.raises(InvalidFileError, match=f"must be a readable .*: {text}$"):
                reader(path)


def test_no_more_is_read_than_allowed(tmp_path):
    """A file that never ends is refused as well."""
    with pytest.raises(InvalidFileError, match="^/dev/zero must be a file of at most 65536 bytes, not a larger one$"):
        read_json("/dev/zero", MAX_CONFIG_BYTES)
    (tmp_path / "a").write_bytes(b"x" * 10)
    assert read_text(tmp_path / "a", 10) == "x" * 10
    with pytest.raises(InvalidFileError, match="must be a file of at most 9 bytes, not a larger one$"):
        read_text(tmp_path / "a", 9)


def test_gzip_within_bounds(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"x" * 10**6))
    assert len(read_bytes(path, 10**6)) == 10**6
    with pytest.raises(InvalidFileError, match="must be a file of at most 999999 bytes, not a larger one$"):
        read_bytes(path, 10**6 - 1)
    whole = path.read_bytes()
    body = zlib.compress(b"x")[2:]
    for damaged in (whole[:-4], whole[: len(whole) // 2], whole[:12] + b"\xff" * 20, whole[:10] + body, whole[:3]):
        path.write_bytes(damaged)
        with pytest.raises(InvalidFileError, match="must be a readable file: "):
            read_bytes(path, 10**6)


def test_parse_json_leaves_other_text_to_the_caller():
    with pytest.raises(json.JSONDecodeError):
        parse_json("gru", "name")
