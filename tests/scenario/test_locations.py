"""Where every key of a file stands."""

from mcsim.scenario.locations import toml_positions


def test_positions_of_every_way_to_write_toml():
    text = '''"a b".'c.d' = 1
e = ["""x
]""", [1, {f = '}', "g" = 2}], # ]
  3]
[[t]]
n = { p.q = '# no comment' , r = """""" }
[t.u]
v = 1
[[t]]
[[t.w]]
k = 2024-01-01 00:00:00 # date
[ z . "y" ]
'''
    places = toml_positions(text).places
    assert places["a b", "c.d"] == (1, 7)
    assert places["e", 1, 1, "f"] == (3, 12)
    assert places["e", 1, 1, "g"] == (3, 21)
    assert places["e", 2] == (4, 3)
    assert places["t", 0, "n", "p", "q"] == (6, 9)
    assert places["t", 0, "n", "r"] == (6, 30)
    assert places["t", 0, "u", "v"] == (8, 1)
    assert places["t", 1, "w", 0, "k"] == (11, 1)
    assert places["z", "y"] == (12, 7)
