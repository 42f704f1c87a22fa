"""GLUE by name: each task read in each form, the real sets that lie here, the metric it is judged by."""

import pytest
from pydantic import ValidationError

from flows.presets import load_recipe
from tasks.core.errors import RecipeError
from tasks.core.site import current_site
from tasks.core.tables import read_rows
from tasks.labelled import LabelledSpec, read_labelled
from tasks.labelled.glue import TASKS, GlueSpec

# Rows as GLUE's archives have them: the header where there is one, a training row, a development row. N is the row's number.
TSV = {
    "cola": (None, "gj04\t{label}\t\tThe cat {n} sat."),
    "sst2": ("sentence\tlabel", 'a "gripping film {n}\t{label}'),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", '{label}\t1\t2\tHe "said {n}\tThey said {n}'),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "1\tnews\tf\t2012\t1\tnone\tnone\tA plane {n}.\tAn air plane {n}.\t{label}.5",
    ),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t2\t3\tWhy {n}?\tHow {n}?\t{label}"),
    "mnli": (
        "index\tsentence1\tsentence2\tlabel1\tgold_label",
        "1\tIt rains {n}.\tIt is wet {n}.\tneutral\t{label}",
    ),
    "qnli": ("index\tquestion\tsentence\tlabel", "1\tWho {n}?\tHe did {n}.\t{label}"),
    "rte": ("index\tsentence1\tsentence2\tlabel", "1\tIt rains {n}.\tIt is wet {n}.\t{label}"),
    "wnli": ("index\tsentence1\tsentence2\tlabel", "1\tIt rains {n}.\tIt is wet {n}.\t{label}"),
}


def write_tsv(folder, name):
    header, row = TSV[name]
    written = TASKS[name].tsv_labels or ("0", "1")
    parts = ["train", *(f"dev_{part}" if part else "dev" for part in TASKS[name].heldout)]
    for number, part in enumerate(parts):
        rows = [row.format(n=100 * number + n, label=written[n % len(written)]) for n in range(60 if part == "train" else 6)]
        (folder / f"{part}.tsv").write_text("\n".join([*([header] if header else []), *rows]) + "\n", encoding="utf-8")
    return {"name": name, "form": "tsv", "path": str(folder)}


def write_parquet(folder, name):
    import pyarrow as pa
    import pyarrow.parquet as pq

    of = TASKS[name]
    for number, part in enumerate(["train", *(f"validation_{part}" if part else "validation" for part in of.heldout)]):
        rows = [
            {column: f"{column} {100 * number + n}" for column in of.texts}
            | {"label": n % len(of.labels) if of.labels else n / 20, "idx": n}
            for n in range(60 if part == "train" else 6)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{part}-00000-of-00001.parquet")
    return {"name": name, "form": "parquet", "path": str(folder)}


def build(site, glue, **settings):
    return read_labelled.build(LabelledSpec.model_validate({"glue": glue} | settings), site=site)


@pytest.mark.parametrize("write", [write_tsv, write_parquet])
@pytest.mark.parametrize("name", list(TASKS))
def test_a_task_is_read_in_each_form(site, tmp_path, name, write):
    of = TASKS[name]
    labelled = build(site, write(tmp_path, name))
    assert (labelled.task, labelled.label_names, labelled.dropped_by_reason) == (of.task, of.labels, {})
    rows = list(read_rows(labelled.path / "items.parquet"))
    assert {row["source"] for row in rows if row["split"] == "test"} == {f"{name}-{part or 'dev'}" for part in of.heldout}
    assert {row["source"] for row in rows if row["split"] != "test"} == {name}
    assert all((row["text_pair"] is None) == (len(of.texts) == 1) for row in rows)
    assert {label for row in rows for label in row["labels"] or ()} == set(of.labels)
    assert sum(row["split"] == "test" for row in rows) == 6 * len(of.heldout)


def test_words_of_labels_and_numbers_mean_the_same(site, tmp_path):
    for folder in ("tsv", "parquet"):
        (tmp_path / folder).mkdir()
    both = [build(site, write_tsv(tmp_path / "tsv", "rte")), build(site, write_parquet(tmp_path / "parquet", "rte"))]
    assert both[0].items_by_label == both[1].items_by_label == {"entailment": 33, "not_entailment": 33}


@pytest.mark.parametrize(
    ("preset", "counts", "metric"),
    [
        ("sst2", {"train": 6909, "validation": 872, "test": 1821}, "accuracy"),
        ("sts-en", {"train": 5688, "validation": 1496, "test": 1378}, "pearson"),
    ],
)
def test_the_real_sets_are_read_by_name(site, shared_data, monkeypatch, preset, counts, metric):
    monkeypatch.setenv("TEXTMILL_DATA_DIR", str(shared_data))
    current_site.cache_clear()
    recipe = load_recipe(preset).resolved()
    assert recipe.asked.metric == metric
    labelled = read_labelled.build(recipe.labelled, site=site)
    assert labelled.items_by_split == counts


def test_the_gate_asks_for_the_metric_of_the_task_unless_another_is_named(tmp_path):
    write_tsv(tmp_path, "cola")
    change = [f"labelled.glue={{name='cola',form='tsv',path='{tmp_path}'}}"]
    assert load_recipe("sst2", change).asked.metric == "mcc"
    assert load_recipe("sst2", [*change, "gate.metric=macro_f1"]).asked.metric == "macro_f1"


def test_what_is_set_beside_the_name_goes_before(tmp_path):
    glue = write_tsv(tmp_path, "cola")
    spec = LabelledSpec.model_validate({"glue": glue, "label_names": ["acceptable", "unacceptable"]})
    assert spec.label_names == ("acceptable", "unacceptable")
    assert LabelledSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_the_name_is_no_part_of_the_identity(site, tmp_path):
    spec = LabelledSpec.model_validate({"glue": write_tsv(tmp_path, "cola")})
    plain = LabelledSpec.model_validate(spec.model_dump(exclude={"glue"}))
    assert plain.glue is None
    assert spec.pinned(site).identity() == plain.pinned(site).identity()


def test_offline_the_hub_is_an_error_with_the_remedy(site, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RecipeError, match=r"HF_HUB_OFFLINE is set, and nyu-mll/glue lies on the hub: save it"):
        build(site, {"name": "rte"})


@pytest.mark.parametrize(
    ("glue", "message"),
    [
        ({"name": "rte", "path": "x"}, "hub has none"),
        ({"name": "rte", "form": "tsv"}, "set path to the folder"),
        ({"name": "mnli", "form": "bare", "path": "x"}, "several held-out parts"),
        ({"name": "snli"}, "cola.*sst2"),
    ],
)
def test_a_mistake_is_named(glue, message):
    with pytest.raises(ValidationError, match=message):
        GlueSpec.model_validate(glue)
