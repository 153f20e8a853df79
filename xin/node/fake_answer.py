"""What the models of a fake node say: one text with what a pane must be able to show, worded differently by each."""

from __future__ import annotations

_WORDS = (
    ("computes a value", "related to the current row", "Use it", "quick", "department"),
    ("calculates a result", "around the current row", "Reach for it", "cheap", "team"),
    ("derives a number", "that share a partition", "Take it", "compact", "group"),
)

_ANSWER = """<think>
The user wants a short explanation first, then one example. A running total and a rank are the usual pair.
</think>

A **window function** {0} over a set of rows {1}, *without* collapsing them. {2} when `GROUP BY` would lose rows.

1. it is written with `OVER (...)`
2. `PARTITION BY` starts anew for each {4}
   - nested: the frame decides which rows count
   - `ROWS BETWEEN 2 PRECEDING AND CURRENT ROW`
3. it runs after `WHERE`, before `ORDER BY`

```sql
SELECT name, {4}, salary,
       RANK() OVER (PARTITION BY {4} ORDER BY salary DESC) AS place,
       SUM(salary) OVER (ORDER BY hired_at) AS running_total
FROM   employees
WHERE  left_at IS NULL;   -- {3}, and it keeps every row
```

| function | keeps rows | needs an order |
|---|---|---|
| `RANK()` | yes | yes |
| `SUM() OVER ()` | yes | no |
| `GROUP BY` | no | no |

> 窗口函数保留每一行。 Emoji too: 👩‍🔬 🚀 é

Ask for *frames* next: they are the part that surprises.
"""


def answer_of(number: int) -> str:
    """The text of the model of this number, counted from 1."""
    return _ANSWER.format(*_WORDS[(number - 1) % len(_WORDS)])
