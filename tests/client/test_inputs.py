"""Reading what people hand in: every mistake has its line, every text arrives as it is."""

from __future__ import annotations

import json

import pytest

from farebox.core.errors import BadInput
from farebox.core.terms import FileInput
from farebox.inputs import batch_file, canonical_lines, json_option, read_batch, restored_lines, text_file
from farebox.places import located
from farebox.tasks import REPLACED, mended_text, spec_of


@pytest.fixture
def read(tmp_path):
    def reading(body: bytes | str):
        path = tmp_path / "b.jsonl"
        path.write_bytes(body if isinstance(body, bytes) else body.encode())
        return read_batch(str(path))

    return reading


def test_json_lines_with_blank_lines_crlf_and_a_mark_at_the_front(read):
    lines = read(b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n{"prompt": "b", "id": 7, "timeout": 5, "tag": {"x": "y"}}')
    assert [(number, task.prompt) for number, task in zip(lines.numbers, lines.tasks, strict=True)] == [(1, "a"), (3, "b")]
    assert (lines.tasks[1].label, lines.tasks[1].timeout_s, lines.tasks[1].tags) == ("7", 5, {"x": "y"})


def test_an_array_over_many_lines_names_the_line_of_each_item(read):
    lines = read('[\n  {"prompt": "a"},\n\n  {"promt": "b"},\n  5,\n {"prompt":\n "c"}\n]\n')
    assert lines.numbers == (2, 6)
    assert [(bad.line, bad.message) for bad in lines.bad] == [
        (4, 'unknown field "promt".'),
        (5, "a JSON object is expected, not a number."),
    ]
    assert read("[]").tasks == ()
    assert read(" [ ] ").bad == ()


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        ('[{"prompt": "a"}', 1, "Expecting ',' or ']'"),
        ('[{"prompt": "a"}\n,', 2, "Expecting value"),
        ('[\n{"prompt": }]', 2, "Expecting value"),
        ('[{"prompt": "a"}]\n[', 2, "Extra data after the array"),
        ('[\n{"prompt": NaN}]', 2, "NaN is no JSON number"),
        (b'[\n"\xff"]', 2, "not UTF-8"),
        (b'{"prompt": "a"}\n{"prompt": "\xff"}', 2, "not UTF-8 at byte 13."),
        ('{"prompt": "a"} {"prompt": "b"}', 1, "not JSON: Extra data at column 17."),
        ("null", 1, "a JSON object is expected, not null."),
        ("true", 1, "a JSON object is expected, not a boolean."),
        ('"x"', 1, "a JSON object is expected, not a string."),
        ("[" * 100_000, 1, "not JSON"),
        ('{"prompt": ' + "[" * 100_000, 1, "not JSON"),
    ],
)
def test_broken_json_names_its_line(read, body, line, words):
    bad = read(body).bad[0]
    assert bad.line == line
    assert words in bad.message


def test_the_first_bad_line_is_said_with_the_number_of_the_others(tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_text('{"prompt": "a"}\n{"x": 1}\n{"y": 1}\n5\n')
    with pytest.raises(BadInput) as caught:
        batch_file(str(path))
    assert f'{path} line 2: unknown field "x".' in str(caught.value)
    assert "Nothing was sent. (2 more bad lines.) Check all:" in str(caught.value)


def test_files_of_a_line_are_found_beside_the_batch_file_or_given_whole(read, tmp_path):
    (tmp_path / "a.txt").write_text("contents")
    files = ["a.txt", {"name": "b", "content": "given"}]
    (task,) = read(json.dumps({"prompt": "x", "files": files})).tasks
    assert [(file.name, file.content) for file in task.files] == [("a.txt", "contents"), ("b", "given")]
    assert "field" in read('{"prompt": "x", "files": [5]}').bad[0].message
    assert "field" in read('{"prompt": "x", "files": "a.txt"}').bad[0].message


def test_the_directory_of_a_line_is_found_beside_the_batch_file_and_a_whole_path_stays(read, tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    (tmp_path / "link").symlink_to("project")
    monkeypatch.setenv("HOME", str(tmp_path))
    lines = [
        json.dumps({"prompt": "x", "directory": one}) for one in ("project", "./link/", "~/project", "/no/such/../place", "")
    ]
    found = [task.directory for task in read("\n".join(lines)).tasks]
    assert found == [f"{tmp_path}/project", f"{tmp_path}/link", f"{tmp_path}/project", "/no/place", ""]
    assert "There is no directory" in read('{"prompt": "x", "directory": "nowhere"}').bad[0].message
    assert "field" in read('{"prompt": "x", "directory": 5}').bad[0].message


def test_a_directory_may_be_given_as_a_path_object_and_worktrees_need_one(tmp_path):
    assert spec_of(located({"prompt": "x", "directory": tmp_path, "worktree": True})).worktree
    with pytest.raises(BadInput, match="a worktree is made from a directory"):
        spec_of({"prompt": "x", "worktree": True})
    with pytest.raises(BadInput, match="is no whole path"):
        spec_of({"prompt": "x", "directory": "a"})


@pytest.mark.parametrize("prompt", ["nul \x00", "🎫", "a\u2028b", "\ud83c\udfab pair", "x" * 10_000_000])
def test_strange_but_sound_prompts_are_read_as_they_are(read, prompt):
    (task,) = read(json.dumps({"prompt": prompt})).tasks
    assert task.prompt == mended_text(prompt)[0]
    assert task.metadata == {}


def test_lone_surrogates_in_a_line_are_replaced_and_counted(read):
    (task,) = read('{"prompt": "a\\ud800b", "metadata": {"k": "v"}}').tasks
    assert (task.prompt, task.metadata) == ("a\ufffdb", {"k": "v", REPLACED: "1"})
    assert mended_text("\ufffd\ud800") == ("\ufffd\ufffd", 1)


def test_lines_survive_their_canonical_form(read):
    tasks = read('{"prompt": "a\\r\\u2028b", "context": {"x": [1, null]}, "files": [{"name": "f", "content": "c"}]}\n').tasks
    assert restored_lines(canonical_lines(tasks)) == tasks
    assert canonical_lines(tasks).count(b"\n") == 1


def test_a_file_must_be_there_be_text_and_have_a_sane_size(tmp_path):
    (tmp_path / "mark.txt").write_bytes(b"\xef\xbb\xbfwith mark")
    assert text_file(str(tmp_path / "mark.txt")) == "with mark"
    (tmp_path / "huge").touch()
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(BadInput, match="is larger than"):
        text_file(str(tmp_path / "huge"))
    with pytest.raises(BadInput, match="cannot be read"):
        text_file("nul\x00name")


def test_a_json_option_may_come_from_a_file(tmp_path):
    (tmp_path / "c.json").write_text('{"a": 1}')
    assert json_option(f"@{tmp_path}/c.json", "--context") == {"a": 1}
    with pytest.raises(BadInput, match="--context: not JSON: Infinity is no JSON number"):
        json_option('{"a": Infinity}', "--context")


def test_a_file_handed_over_in_python_is_cleaned_too():
    spec = spec_of({"prompt": "x", "files": [FileInput(name="f", content="a\ud800")]})
    assert (spec.files[0].content, spec.metadata[REPLACED]) == ("a\ufffd", "1")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": "x" * (64 * 1024 * 1024 + 1)}, "prompt has 67108865 bytes; the most is 67108864."),
        ({"prompt": "x", "metadata": {"k": "v" * 70_000}}, "metadata has"),
        ({"prompt": "x", "q" * 100: 1}, 'qqq...". Known: prompt'),
        ({"prompt": "x", "priority": True}, 'field "priority": Expected int, got bool (it is True).'),
        ({"prompt": "x", "id": "q" * 1025}, 'field "id": Expected str of length <= 1024.'),
        ({"prompt": "x", "context": [1]}, 'field "context": Expected object, got array.'),
    ],
)  # fmt: skip
def test_a_wrong_field_says_what_was_expected(fields, words):
    with pytest.raises(BadInput) as caught:
        spec_of(fields)
    assert words in str(caught.value)
