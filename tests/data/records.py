"""Records of the tests, and files of them."""

import json

import pyarrow
import pyarrow.parquet

from dsrl import build

GOOD = {"prompt": "1+1=", "answer": "2"}
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1="}]
VERL = {
    "data_source": "sums",
    "prompt": CHAT,
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "2"},
    "extra_info": {"index": 7},
}


def jsonl(path, *records):
    lines = (record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def parquet(path, *records):
    columns = {key: [record.get(key) for record in records] for record in records for key in record}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return str(path)


def source(**fields):
    return build("data", {"name": "questions", **fields})


def rows_of(path, **fields):
    return source(train=path, **fields).train_rows()
