# SPDX-License-Identifier: BSD-2-Clause
"""What was measured, as tables: printed as text, and kept as JSON lines for the report."""
import json
import statistics
import sys


def middle(values):
    return statistics.median(values) if values else float("nan")


def ratio(value, base):
    return f"{value / base:.2f}" if base and value == value else "-"


class Metric:
    """One figure of a row. `form` shows it; `better` is "less" or "more"; `compare`: its ratio to the
    base row's is shown."""

    def __init__(self, name, form="{:.2f}", better="less", compare=True):
        self.name, self.form, self.better, self.compare = name, form, better, compare


class Table:
    """Rows of one or more metrics, each a list of samples. `base` is the key of the row that ratios
    refer to."""

    def __init__(self, title, keys, metrics, base, base_name="skep"):
        self.title, self.keys, self.metrics, self.base = title, keys, metrics, list(base)
        self.base_name = base_name
        self.rows, self.notes, self.commands = [], [], []

    def add(self, key, *samples, note=""):
        """A list of samples for each metric; none: it failed, or `note` says why there are none."""
        self.rows.append({"key": [str(k) for k in key], "samples": [list(s) for s in samples],
                          "note": note})

    def base_of(self, metric):
        for row in self.rows:
            if row["key"] == self.base:
                return middle(row["samples"][metric])
        return None

    def cells(self, row, index):
        metric, values = self.metrics[index], row["samples"][index]
        if not values:
            # Once in a row that has no figure at all.
            text = (row["note"] or "failed") if not index or any(row["samples"]) else "-"
        else:
            text = metric.form.format(middle(values))
            if len(values) > 1:
                text += " (" + " - ".join(metric.form.format(v)
                                          for v in (min(values), max(values))) + ")"
        if not metric.compare:
            return [text]
        return [text, ratio(middle(values), self.base_of(index))]

    def text(self):
        header = list(self.keys)
        for m in self.metrics:
            header += [m.name] + ([f"to {self.base_name}'s"] if m.compare else [])
        lines = [header] + [row["key"] + [c for i in range(len(self.metrics))
                                          for c in self.cells(row, i)] for row in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
        out = ["", f"## {self.title}", ""]
        for n, line in enumerate(lines):
            out.append("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |")
            if n == 0:
                out.append("|" + "|".join("-" * (w + 2) for w in widths) + "|")
        for block in (self.notes, self.commands):
            out += [""] * bool(block) + block
        return "\n".join(out)

    def publish(self, path=None):
        """Prints it, and appends it to the file `path`."""
        print(self.text())
        sys.stdout.flush()
        if path:
            with open(path, "a", encoding="utf-8") as f:
                f.write(json.dumps(self.as_dict()) + "\n")

    def as_dict(self):
        return {"title": self.title, "keys": self.keys, "base": self.base,
                "base_name": self.base_name, "rows": self.rows, "notes": self.notes,
                "commands": self.commands, "metrics": [vars(m) for m in self.metrics]}


def load(path):
    """The tables that publish() has kept."""
    tables = []
    with open(path, encoding="utf-8") as f:
        for line in f:
            d = json.loads(line)
            t = Table(d["title"], d["keys"], [Metric(**m) for m in d["metrics"]], d["base"],
                      d["base_name"])
            t.rows, t.notes, t.commands = d["rows"], d["notes"], d["commands"]
            tables.append(t)
    return tables
