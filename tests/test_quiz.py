"""The quiz: questions sound at many seeds, papers drawn by objective, forged scores found."""

import json
import math
import re
from pathlib import Path
from statistics import NormalDist

import ipywidgets
import numpy as np
import pytest

from x1lib.budget_guard import BudgetGuard, BudgetRefused, Ledger, Plan
from x1lib.quiz import (
    N_ASKED,
    N_TO_PASS,
    REHEARSAL,
    Paper,
    QuizError,
    counted,
    grade,
    machine_answers,
    objectives,
    regrade,
    save,
    status,
)
from x1lib.quiz import __main__ as command
from x1lib.quiz.__main__ import answers_from, ask, asked, main
from x1lib.quiz.bank import QUESTIONS
from x1lib.quiz.paper import FIRST
from x1lib.quiz.question import Bank, Draw, Item, figures
from x1lib.quiz.widget import Quiz

SOURCES = Path(__file__).resolve().parent.parent / "notebooks" / "src"
SEEDS = range(16)


# The bank


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_a_question_is_sound_whatever_is_drawn(question):
    places = set()
    for seed in SEEDS:
        put = question.put(f"quiz/{seed}")
        assert len(set(put.options)) == 4 and put.right in "abcd"
        assert put.text.endswith(("?", ")")) and len(put.text) >= 40
        assert len(put.why) >= 80 and put.why.endswith(".")
        for words in (put.text, put.why, *put.options):
            assert not re.search(r"nan|inf\b|None|\be\+|\{|\\", words), words
        places.add(put.right)
    assert len(places) >= 3, "the right answer stands anywhere"
    assert question.put("quiz/3") == question.put("quiz/3")


def test_there_are_enough_questions_and_most_are_drawn():
    assert len(QUESTIONS) >= 30 and len({q.id for q in QUESTIONS}) == len(QUESTIONS)
    assert min(len(mine) for mine in objectives().values()) >= 4
    varied = [q for q in QUESTIONS if len({q.put(f"quiz/{seed}").text for seed in SEEDS}) > 1]
    assert len(varied) >= 30


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_a_link_leads_to_a_section(question):
    source = SOURCES / f"{question.notebook}.py"
    if not source.exists():
        pytest.skip(f"{question.notebook} is not written yet")
    headings = re.findall(r"^# ##+ (.*)$", source.read_text(), re.MULTILINE)
    assert question.section in headings
    assert " " not in question.link


@pytest.mark.parametrize(
    ("name", "word"),
    [("first_loss", "ln V"), ("ramp", "ramped("), ("cosine_rate", "cosine("), ("leads", "norm")],
)
def test_the_section_is_the_one_that_explains_it(name, word):
    (question,) = (q for q in QUESTIONS if q.id == f"logs.{name}")
    source = (SOURCES / f"{question.notebook}.py").read_text()
    _, _, rest = source.partition(f"# ## {question.section}\n")
    assert word in re.split(r"^# ## ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def test_length_does_not_give_the_answer_away():
    """A right answer in words is as seldom the longest as any other, one time in four."""
    worded = longest = 0
    for question in QUESTIONS:
        put = question.put("quiz/0")
        sizes = dict(zip("abcd", map(len, put.options), strict=True))
        if max(sizes.values()) > 24:
            worded += 1
            longest += sizes[put.right] == max(sizes.values())
    assert worded >= 20 and 2 <= longest <= 7


@pytest.mark.parametrize("other", ["1", "1.00", "1.0"])
def test_two_equal_options_are_refused(other):
    bank = Bank("none", "none")
    bank("Question")(lambda draw: Item("Which?", "1", ("2", "3", other), "Because."))
    with pytest.raises(QuizError, match="read the same"):
        bank.questions[0].put("quiz/1")


def test_answers_are_computed_and_not_typed():
    """Some by hand, here."""
    by_id = {q.id: q for q in QUESTIONS}

    def right(name: str, *wanted: str) -> str:
        for seed in range(200):
            put = by_id[name].put(f"quiz/{seed}")
            if all(words in put.text for words in wanted):
                return put.options["abcd".index(put.right)]
        raise AssertionError(f"{name} never asks that")

    assert right("motivation.hours_by_6nd", "MFU 0.45") == "3.0 hours"
    assert right("motivation.mfu_of_a_day", "on 5 billion") == "0.056"
    assert right("motivation.a_million_dollars", "140 billion") == "about $13 thousand"
    assert right("motivation.parameters", "has it in all") == "240M"
    assert right("motivation.optimum", "of 1 billion") == (
        "one on about 20 billion tokens: D_opt ≈ 20·N"
    )
    assert right("data.on_disk", "are 5 billion tokens of GPT-2") == "10 GB"
    assert right("data.bits", "loses 3.2 nats", "4.2 bytes") == "1.099"
    assert right("economics.what_counts", "`50m`") == "615"
    assert right("logs.first_loss", "10.82") == "50,257 tokens"
    assert right("inference.price", "2,000", "50%") == "$0.306"
    assert right("scaling.three_sizes") == "3"


def option(name: str) -> tuple:
    """A question as one paper puts it, its right option and the others."""
    put = next(q for q in QUESTIONS if q.id == name).put("quiz/1")
    right = put.options["abcd".index(put.right)]
    return put, right, [one for one in put.options if one != right]


def test_a_check_at_launch_stops_each_of_the_wrong_answers(tmp_path):
    def guard(name: str) -> BudgetGuard:
        return BudgetGuard(Ledger(tmp_path / name, cap_usd=50), 2.0)

    def together() -> None:
        shared = guard("together")
        for name in ("one", "other"):
            shared.admit(Plan(name, 20), run_id=name)

    stopped = {
        "a plan whose hours times price": lambda: guard("hours").admit(Plan("one", 36)),
        "two plans that are each under": together,
        "a plan that fits only if no restart": lambda: guard("restart").admit(
            Plan("one", 20, restart_hours=5)
        ),
    }
    guard("fits").admit(Plan("one", 20))
    for words in option("motivation.a_hard_cap")[2]:
        (admit,) = (one for begin, one in stopped.items() if words.startswith(begin))
        with pytest.raises(BudgetRefused):
            admit()


def test_the_cast_that_is_asked_about_is_one_that_wraps():
    put, right, _ = option("data.overflow")
    assert ".astype(np.uint16)" in put.text  # numpy 2 refuses np.uint16(70000)
    id_ = int(re.search(r"id ([\d,]+)", put.text)[1].replace(",", ""))
    assert f"token {np.array([id_]).astype(np.uint16)[0]:,}," in right


def test_how_far_two_single_runs_must_be_apart():
    def by_chance(times: float) -> float:
        return 2 * (1 - NormalDist().cdf(times / math.sqrt(2)))

    assert by_chance(2.8) < 0.05 < 0.15 < by_chance(2)
    put, right, _ = option("labs.noise")
    assert "nearly three times" in right and "2.8" in put.why
    lab = (SOURCES / "lab01.py").read_text()
    assert "nearly three times this floor" in lab and "2,8 veces" in lab


def test_no_distractor_of_the_saturated_sweep_is_true_as_well():
    """In a grid of three by three only the count of N is free; noise and misfit part nowhere."""
    _, right, wrong = option("scaling.saturated")
    assert right == "which parameters N should count"
    assert not any("noise" in words or "optimiser" in words for words in wrong)


def test_numbers_as_people_say_them():
    assert [figures(v) for v in (20e9, 5.13e6, 999_960, 1234, 0.25)] == [
        "20 billion", "5.1 million", "1 million", "1.2 thousand", "0.25",
    ]  # fmt: skip
    assert figures(1.367e9, 3) == "1.37 billion"


def test_draws_follow_from_the_key():
    one, other = Draw("a"), Draw("a")
    assert [one.below(100) for _ in range(9)] == [other.below(100) for _ in range(9)]
    assert sorted(one.shuffled(range(10))) == list(range(10))
    assert {Draw(str(i)).below(3) for i in range(40)} == {0, 1, 2}
    assert Draw("a").below(2**32) == 3912515342  # the same on every machine, in every version


# The paper


def test_a_paper_is_stratified_and_begins_with_the_briefs_slip():
    asked_in_all = set()
    for seed in SEEDS:
        paper = Paper(seed)
        names = [put.question.objective for put in paper.questions]
        assert len(names) == N_ASKED == len({put.id for put in paper.questions})
        assert {names.count(name) for name in objectives()} == {2}
        assert paper.questions[0].id == FIRST
        asked_in_all |= {put.id for put in paper.questions}
    assert len(asked_in_all) > 50
    assert N_TO_PASS / N_ASKED >= 0.8 > (N_TO_PASS - 1) / N_ASKED


def test_seed_and_mode_make_the_paper():
    assert Paper(3).sha256 == Paper(3).sha256
    assert len({Paper(3).sha256, Paper(4).sha256, Paper(3, REHEARSAL).sha256}) == 3
    for seed, mode in ((-1, "quiz"), (True, "quiz"), (1.5, "quiz"), (1, "other")):
        with pytest.raises(QuizError):
            Paper(seed, mode)


# Grading, and grading again


def some_wrong(paper: Paper, n_wrong: int) -> dict[str, str]:
    answers = machine_answers(paper)
    for put in paper.questions[:n_wrong]:
        answers[put.id] = "abcd"[("abcd".index(put.right) + 1) % 4]
    return answers


@pytest.mark.parametrize(("n_wrong", "passes"), [(0, True), (3, True), (4, False), (16, False)])
def test_thirteen_pass(n_wrong, passes):
    one = grade(Paper(5), some_wrong(Paper(5), n_wrong))
    assert (one.n_right, one.passes) == (16 - n_wrong, passes)


def test_an_open_question_is_wrong_and_a_strange_answer_refused():
    paper = Paper(5)
    assert grade(paper, {}).n_right == 0
    with pytest.raises(QuizError, match="is not asked"):
        grade(paper, {"scaling.nothing": "a"})
    with pytest.raises(QuizError, match="expected one of"):
        grade(paper, {paper.questions[0].id: "e"})


def test_a_rehearsal_passes_nothing():
    paper = Paper(5, REHEARSAL)
    one = grade(paper, machine_answers(paper))
    assert one.n_right == N_ASKED and one.is_rehearsal and not one.passes


@pytest.fixture
def record(tmp_path) -> Path:
    path = tmp_path / "quiz-score.json"
    save(grade(Paper(5), some_wrong(Paper(5), 6)), path)
    rehearsal = Paper(9, REHEARSAL)
    save(grade(rehearsal, machine_answers(rehearsal)), path)
    return path


def test_attempts_are_kept_and_come_out_the_same(record):
    first, second = regrade(record)
    assert (first.n_right, first.is_rehearsal) == (10, False)
    assert (second.n_right, second.is_rehearsal) == (16, True)
    assert status(record) == "10 of 16 right at best of 1 attempts: 13 pass"


def change(path: Path, number: int, **values: object) -> None:
    record = json.loads(path.read_text())
    one = record["attempts"][number] | values
    record["attempts"][number] = {key: v for key, v in one.items() if v is not ...}
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (0, {"n_right": 14}, "says n_right 14, and its answers earn 10"),
        (0, {"passed": True}, "says passed True"),
        (0, {"n_right": 14, "passed": True}, "says n_right 14"),
        (0, {"seed": 6}, "other questions"),
        (0, {"mode": "rehearsal"}, "other questions"),
        (1, {"mode": "quiz", "passed": True}, "other questions"),
        (1, {"passed": True}, "says passed True"),
        (0, {"questions_sha256": "0" * 64}, "other questions"),
        (0, {"answers": {}}, "says n_right 10, and its answers earn 0"),
        (0, {"answers": {"scaling.nothing": "a"}}, "is not asked"),
        (0, {"answers": None}, "attempt 1 holds no letters by question (None); move the file away"),
        (0, {"when": ...}, "lacks 'when'"),
        (0, {"extra": 1}, "says extra 1"),
        (0, {"seed": "5"}, "seed is '5'"),
    ],
)
def test_a_forged_score_is_found(record, number, values, said):
    change(record, number, **values)
    with pytest.raises(QuizError, match=re.escape(said)):
        regrade(record)
    assert said in status(record)
    with pytest.raises(QuizError):  # and nothing is added to it
        save(grade(Paper(1), {}), record)


def test_of_a_seed_only_the_first_attempt_counts(tmp_path):
    path = tmp_path / "quiz-score.json"
    for paper, n_wrong in ((Paper(5), 16), (Paper(5), 0), (Paper(5, REHEARSAL), 0), (Paper(6), 5)):
        save(grade(paper, some_wrong(paper, n_wrong)), path)
    assert [(one.paper.seed, one.n_right) for one in counted(regrade(path))] == [(5, 0), (6, 11)]
    assert status(path) == "11 of 16 right at best of 2 attempts: 13 pass"


def test_a_record_that_cannot_be_written_is_said_after_the_report(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "dashes").write_text("-" * 16)
    out = tmp_path / "file" / "quiz-score.json"
    command = ["--seed", "5", "--answers", str(tmp_path / "dashes"), "--out", str(out)]
    assert main(command) == 2
    said = capsys.readouterr()
    assert "seed 5: 0 of 16 right" in said.out and "cannot be written" in said.err


def test_a_question_that_has_changed_is_said(record, monkeypatch):
    put = Paper(5).questions[0]
    item = Item("Which is it now, then, in other words?", "1", ("2", "3", "4"), "Because it is.")
    monkeypatch.setitem(put.question.__dict__, "make", lambda draw: item)
    with pytest.raises(QuizError, match="other questions"):
        regrade(record)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "attempts": []}', '{"format": 1}'])
def test_a_damaged_record_is_refused(tmp_path, text):
    path = tmp_path / "quiz-score.json"
    path.write_text(text)
    with pytest.raises(QuizError, match=r"damaged|format"):
        regrade(path)


# The command


def run(*arguments: object) -> int:
    return main([str(one) for one in arguments])


def test_the_command_takes_a_file_of_answers(tmp_path, capsys):
    out, answers = tmp_path / "score.json", tmp_path / "answers"
    answers.write_text("".join(machine_answers(Paper(7)).values()) + "\n")
    assert run("--seed", 7, "--answers", answers, "--out", out) == 0
    said = capsys.readouterr().out
    assert "16 of 16 right" in said and "passed" in said and "notebooks/01_scaling_laws" in said
    answers.write_text(json.dumps(some_wrong(Paper(8), 4)))
    assert run("--seed", 8, "--answers", answers, "--out", out) == 1
    assert run("--regrade", out) == 0
    assert "12 of 16 right, not passed" in capsys.readouterr().out
    answers.write_text("abc")
    assert run("--seed", 7, "--answers", answers, "--out", out) == 2
    assert "holds 3 letters" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("--answers", answers)


def test_the_key_of_a_graded_paper_passes_nothing(tmp_path, capsys):
    out, answers = tmp_path / "score.json", tmp_path / "answers"
    answers.write_text("-" * N_ASKED)
    assert run("--seed", 7, "--answers", answers, "--out", out) == 1
    key = re.findall(r"it is ([a-d])\)", capsys.readouterr().out)
    answers.write_text("".join(key).upper())  # capitals are letters, too
    assert run("--seed", 7, "--answers", answers, "--out", out) == 1
    said = capsys.readouterr().out
    assert "seed 7 was taken before" in said and "0 of 16 right at best of 1 attempts" in said
    assert [one.n_right for one in regrade(out)] == [0, 16]
    assert run("--regrade", out) == 0
    assert "16 of 16 right, not the first of its seed" in capsys.readouterr().out


def test_capital_letters_are_taken_from_either_kind_of_file(tmp_path):
    path, paper = tmp_path / "answers", Paper(7)
    for text in ("A" * N_ASKED, json.dumps({put.id: "A" for put in paper.questions})):
        path.write_text(text)
        assert set(answers_from(path, paper).values()) == {"a"}


def test_a_record_that_cannot_be_kept_is_said_before_anything_is_asked(record, capsys, monkeypatch):
    change(record, 0, n_right=14)
    monkeypatch.setattr("builtins.input", lambda prompt: pytest.fail("it asked"))
    assert run("--out", record) == 2
    assert "move the file away, and take the quiz again" in capsys.readouterr().err
    record.rename(record.with_suffix(".old"))
    assert run("--rehearse", "--out", record) == 0


def test_answers_are_explained_whatever_becomes_of_the_record(tmp_path, capsys, monkeypatch):
    def full(attempt, path):
        raise QuizError("the disk is full")

    monkeypatch.setattr(command, "save", full)
    monkeypatch.setattr("builtins.input", lambda prompt: "a")
    assert run("--seed", 7, "--out", tmp_path / "score.json") == 2
    said = capsys.readouterr()
    assert "seed 7: " in said.out and "the disk is full" in said.err


@pytest.mark.parametrize(
    ("end", "said"), [(EOFError, "ended before any answer"), (KeyboardInterrupt, "broken off")]
)
def test_a_quiz_that_nobody_answers_is_no_attempt(tmp_path, capsys, monkeypatch, end, said):
    def read(prompt: str) -> str:
        raise end

    monkeypatch.setattr("builtins.input", read)
    assert run("--seed", 7, "--out", tmp_path / "score.json") == 2
    shown = capsys.readouterr()
    assert said in shown.err and "it is" not in shown.out
    assert not (tmp_path / "score.json").exists()


def test_the_command_rehearses_and_finds_a_forgery(tmp_path, capsys):
    out = tmp_path / "score.json"
    assert run("--rehearse", "--seed", 3, "--out", out) == 0
    assert "passes nothing" in capsys.readouterr().out
    change(out, 0, mode="quiz", passed=True)
    assert run("--regrade", out) == 2
    assert "other questions" in capsys.readouterr().err


def test_the_command_asks(capsys):
    paper, said = Paper(4), []
    replies = iter(["x", "a", "", *"b" * 14])
    answers = ask(paper, lambda prompt: next(replies), said.append)
    ids = [put.id for put in paper.questions]
    assert answers == {ids[0]: "a"} | dict.fromkeys(ids[2:], "b")
    assert "give one letter" in "\n".join(said)
    ended = iter(["c"])

    def read(prompt: str) -> str:
        try:
            return next(ended)
        except StopIteration:
            raise EOFError from None

    assert ask(paper, read, said.append) == {ids[0]: "c"}
    assert run("--show", "--seed", 4) == 0
    shown = capsys.readouterr().out
    assert all(put.text in shown for put in paper.questions)
    assert "right" not in asked(1, paper.questions[2]).split(")")[-1]
    with pytest.raises(QuizError):
        answers_from(Path("nowhere"), paper)


# The widget


def test_the_widget_grades_and_records_without_an_output_widget(tmp_path):
    made = Quiz(seed=7, path=tmp_path / "score.json")
    pending, seen = [made], []
    while pending:
        one = pending.pop()
        seen.append(one)
        pending += getattr(one, "children", ())
    assert not any(isinstance(one, ipywidgets.Output) for one in seen)
    assert len([one for one in seen if isinstance(one, ipywidgets.RadioButtons)]) == N_ASKED
    assert "16 open" in made.words.value and "python -m x1lib.quiz" in repr(made)
    for put, choice in zip(made.paper.questions, made.choices, strict=True):
        choice.value = put.right
    made.choices[3].value = "abcd"[("abcd".index(made.paper.questions[3].right) + 1) % 4]
    assert "all answered" in made.words.value
    made.grade_button.click()
    assert "15 of 16 right" in made.words.value and "passed" in made.words.value
    assert "it is" in made.feedback[3].value and ".ipynb#" in made.feedback[3].value
    made.grade()  # a second press grades nothing again
    (attempt,) = regrade(made.path)
    assert attempt.n_right == 15 and attempt.paper.seed == 7
    made.again_button.click()
    assert made.attempt is None and not made.answers and not made.grade_button.disabled


def test_the_widget_says_when_the_record_is_damaged(tmp_path):
    path = tmp_path / "score.json"
    path.write_text("{}")
    made = Quiz(seed=1, path=path)
    assert "Nothing is asked" in made.words.value and "is damaged" in made.words.value
    assert made.children == (made.words, made.again_button)  # before anyone has answered
    path.unlink()
    made.again_button.click()
    assert made.grade_button in made.children[-2].children and "16 open" in made.words.value
    path.write_text("{}")  # damaged while the questions were answered: the grade is shown
    made.grade()
    assert "0 of 16 right" in made.words.value and "not recorded" in made.words.value
    assert path.read_text() == "{}"
