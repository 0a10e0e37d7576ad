"""A language model made smaller, end to end: data, run, resume, figures, page, command line's words."""

import asyncio
import json
import math

import pytest
import torch
from plait.decoder_cuts import DecoderCut
from plait.errors import DataError, SpecError, WorkerLost
from plait.models.cut_distill import sequence_nats
from plait.models.cut_scorer import load_scorer
from plait.models.decoder_cut import load_cut
from plait.orchestrator.recipes.compress_decoder import CompressDecoder, _Teacher, _workers
from plait.orchestrator.recipes.compress_decoder_data import load_passages, parts_of
from plait.orchestrator.recipes.compress_decoder_result import CompressDecoderResult, statement
from plait.orchestrator.report.compress_decoder_page import table_rows
from plait.records import Request

WORDS = [
    "the",
    "river",
    "carries",
    "stones",
    "and",
    "leaves",
    "past",
    "mills",
    "where",
    "people",
    "grind",
    "corn",
    "for",
    "bread",
    "every",
    "day",
]
SMALL = {
    "evaluations": 9, "random_blocks": 1, "steps": 2, "batch": 2, "length": 16, "fit": 4, "calibration": 2,
    "validation": 2, "test": 2, "limit": 6, "target": "params=0.994x",
}  # fmt: skip


def lines(folder, name="text.jsonl", count=120, field="text"):
    file = folder / name
    texts = [" ".join(WORDS[(at * step) % len(WORDS)] for step in range(1, 9)) + f" {at}." for at in range(count)]
    file.write_text("".join(json.dumps({field: text}) + "\n" for text in texts))
    return file


def test_passages_of_text_and_of_fields(tmp_path):
    (tmp_path / "a.txt").write_text("One\ntwo.\n\n\n  Three.\n\nThree.\n")
    (tmp_path / "b.jsonl").write_text('{"ends": ["x", "y"], "question": "q"}\n\n')
    assert [one.text for one in load_passages([str(tmp_path / "a.txt")], "data")] == ["One\ntwo.", "Three."]
    assert [one.text for one in load_passages([str(tmp_path / "b.jsonl")], "data")] == ["q"]
    assert [one.text for one in load_passages([f"{tmp_path / 'b.jsonl'}#ends"], "data")] == ["x y"]


@pytest.mark.parametrize(
    ("content", "place"), [("{}\n", ":1: text"), ('{"text": ""}', ":1: text"), ("\n{", ":2"), ("[1]", ":1: got")]
)
def test_a_line_without_text_is_named(tmp_path, content, place):
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(DataError, match=f"bad.jsonl{place}"):
        load_passages([str(tmp_path / "bad.jsonl")], "data")


def test_a_missing_file_is_named():
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        load_passages(["nowhere.txt"], "data")


def test_parts_share_no_passage_and_the_sources_take_turns(tmp_path):
    passages = load_passages([str(lines(tmp_path, "a.jsonl", 100)), str(tmp_path / "a.jsonl")], "data")
    few = [one.model_copy(update={"source": "b", "text": f"b{at}"}) for at, one in enumerate(passages[:50])]
    parts = parts_of([*passages, *few], seed=3)
    sets = [set(parts[name]) for name in ("fit", "validation", "test")]
    assert sum(map(len, sets)) == 150 == len(set.union(*sets))
    assert [len(part) for part in sets] == [105, 15, 30]
    assert sum(text.startswith("b") for text in parts["test"][:10]) == 5
    assert parts == parts_of([*passages, *few], seed=3) != parts_of([*passages, *few], seed=4)


def test_bad_settings_are_refused(tmp_path):
    text = str(lines(tmp_path))
    with pytest.raises(SpecError, match=r"compress-decoder.target.*params=0.8x"):
        CompressDecoder(data=text, target="ms=3")
    with pytest.raises(SpecError, match=r"compress-decoder.data"):
        CompressDecoder()
    with pytest.raises(SpecError, match=r"compress-decoder.steps"):
        CompressDecoder(data=text, steps=-1)


def test_a_text_that_is_one_of_the_questions_is_left_out(tmp_path, questions):
    file = lines(tmp_path)
    with file.open("a") as stream:
        stream.write(json.dumps({"text": questions[0].question}) + "\n")
    assert len(CompressDecoder(data=str(file)).passages) == 120


@pytest.mark.weights
class TestRun:
    """Over a model of four random layers with the real tokenizer; its widths are 64 and 32."""

    def make(self, tiny_folder, folder, **settings):
        data = [str(lines(folder)), str(lines(folder, "more.jsonl", 60, "question"))]
        other = [f"{lines(folder, 'other.jsonl', 40, 'ends')}#ends"]
        return CompressDecoder(str(tiny_folder), data, other=other, **{**SMALL, **settings})

    @pytest.fixture(scope="class")
    def done(self, tiny_folder, ray_cluster, tmp_path_factory):
        folder = tmp_path_factory.mktemp("cut")
        return self.make(tiny_folder, folder, run={"actors": 1}).run(folder / "run")

    def test_every_finalist_is_within_the_limit_and_beside_its_controls(self, done):
        names = [row["name"] for row in done.summary["rows"]]
        assert names == ["policy", "random", "block influence", "uniform width", "random blocks 1"]
        assert all(
            row["params"] <= done.summary["limit"] < done.summary["full"]["params"] for row in done.summary["rows"]
        )
        assert all(row["after"] and row["before"] and row["accuracy"]["n"] == 6 for row in done.summary["rows"])
        assert done.summary["full"]["after"]["test"]["nats"]["n"] == 2
        assert set(done.summary["full"]["after"]) == {"validation", "test", "other"}

    def test_the_choice_reads_the_validation_text_alone(self, done):
        scores = {row["name"]: row["after"]["validation"]["nats"]["mean"] for row in done.summary["rows"]}
        assert scores[done.summary["chosen"]] == min(scores.values())

    def test_the_saved_student_is_the_one_that_was_measured(self, done):
        row = next(row for row in done.summary["rows"] if row["name"] == done.summary["chosen"])
        model = load_cut(done.folder / "student")
        assert done.data["student"]["cut"] == row["cut"]
        assert sum(parameter.numel() for parameter in model.parameters()) == row["params"]
        run = CompressDecoder.resume(done.folder)
        from plait.models.sources import ensure

        text = _Teacher.prepared(run, ensure(run.spec.teacher)).data.texts["test"]
        nats = sum(sequence_nats(model, text)) / len(text) / (text.shape[1] - 1)
        assert nats == pytest.approx(row["after"]["test"]["nats"]["mean"], abs=1e-6)

    def test_result_page_and_terminal_say_the_same(self, done):
        from rich.console import Console

        console = Console(record=True, width=220)
        done.show(console)
        shown, page = console.export_text(), done.page()
        for row in table_rows(done.summary)[1:]:
            assert row[-1] in shown
            assert row[-1] in page
        assert statement(done.summary) in page.replace("&#39;", "'")
        assert (done.folder / "report.html").read_text() == page
        assert CompressDecoderResult.load(done.folder).line() == done.line()

    def test_two_actors_give_the_same_bytes_as_one(self, done, tiny_folder, tmp_path):
        again = self.make(tiny_folder, tmp_path, run={"actors": 2}).run(tmp_path / "run")
        ours, theirs = ((one.folder / "result.json").read_text() for one in (done, again))
        data, other = (json.loads(text) for text in (ours, theirs))
        for one in (data, other):
            del one["spec"]["data"], one["spec"]["other"]
        assert data == other
        weights = [(one.folder / "student" / "model.safetensors").read_bytes() for one in (done, again)]
        assert weights[0] == weights[1]

    def test_a_run_that_was_stopped_goes_on_and_ends_the_same(self, done, tiny_folder, tmp_path):
        folder = tmp_path / "run"
        stopped = self.make(tiny_folder, tmp_path, run={"actors": 1, "budget_evaluations": 4}).run(folder)
        assert stopped.status == "STOPPED"
        assert stopped.data["student"] is None
        assert "stopped" in stopped.page()
        (tmp_path / "text.jsonl").unlink()  # the run folder has its own copy
        resumed = CompressDecoder.resume(folder, {"budget_evaluations": None}).run(folder)
        assert resumed.status == "SUCCEEDED"
        assert resumed.summary == done.summary
        assert resumed.timing["counts"]["found"] >= 4

    async def answer(self, worker, request):
        """As the driver does: a worker that was lost is revived; the dying actor may still answer or refuse."""
        for _ in range(10):
            try:
                return (await worker.run([request]))[0]
            except WorkerLost:
                await worker.revive()
        raise AssertionError("the actor did not come back")

    def test_an_actor_that_was_killed_comes_back_with_its_data(self, tiny_folder, ray_cluster, tmp_path):
        import ray
        from plait.models.sources import ensure

        teacher = _Teacher.prepared(self.make(tiny_folder, tmp_path), ensure(str(tiny_folder)))
        [worker], held = _workers(teacher, 1)
        request = Request("0-3:64", {"steps": 1, "seed": 0, "splits": ["validation"]})
        before = asyncio.run(worker.run([request]))[0]
        ray.kill(worker._handle, no_restart=False)
        assert asyncio.run(self.answer(worker, request)).values == before.values
        worker.kill()
        del held

    def test_a_target_out_of_reach_is_said_before_anything_is_written(self, tiny_folder, tmp_path):
        with pytest.raises(SpecError, match="the smallest cut"):
            self.make(tiny_folder, tmp_path, target="params=0.5x").run(tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_too_little_text_is_said_before_anything_is_written(self, tiny_folder, tmp_path):
        with pytest.raises(DataError, match="text for fit"):
            self.make(tiny_folder, tmp_path, fit=5000).run(tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.weights
@pytest.mark.slow
def test_the_real_model_cut_and_distilled_is_better_than_cut(smollm2, questions, tmp_path):
    """A few steps on real text bring the perplexity of a cut of 0.8x down, on text that was not trained on."""
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(question.question for question in questions))
    run = CompressDecoder(data=str(file), questions="plait:questions", limit=1, length=48, fit=8, validation=1, test=2,
                          calibration=4, batch=2, steps=4)  # fmt: skip
    run.passages = load_passages([str(file)], "data")  # the shipped questions are all the text that is here
    teacher = _Teacher.prepared(run, smollm2)
    cut = teacher.space.uniform()
    assert 0.78 < teacher.space.sizes.params(cut) / smollm2.parameters <= 0.8
    scorer = load_scorer(*teacher.scorer)
    text = teacher.data.texts["test"]
    full, before, after = (
        sum(sequence_nats(scorer.student(one, steps, 0)[0], text))
        for one, steps in ((teacher.space.sizes.full, 0), (cut, 0), (cut, 4))
    )
    assert full < after < before
    assert math.isfinite(after)
    assert torch.get_num_threads() == 1
    assert DecoderCut.parse(cut.key) == cut
