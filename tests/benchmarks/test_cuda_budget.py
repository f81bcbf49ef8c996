"""``cuda_budget.py`` on recorded machine code, and on the extension where cuobjdump and its CUDA part are there."""

import json
import runpy
from pathlib import Path

import pytest

from buttress.kernels import native

ROOT = Path(__file__).parents[2]

USAGE = """
Fatbin elf code:
================
arch = sm_90
code version = [1,8]

Resource usage:
 Common:
  GLOBAL:0
 Function _Z4funcv:
  REG:96 STACK:8 SHARED:6144 LOCAL:0 CONSTANT[0]:2642 TEXTURE:0 SURFACE:0 SAMPLER:0
"""

# A loop over 16 bytes, with a longer way for elements one by one, in a kernel that may end before it.
CODE = """
		Function : _ZN8buttress10by_networkILNS_4TypeE0ELi4EEEvNS_7RecordsEbb
	.headerflags	@"EF_CUDA_SM90"
        /*0000*/                   ISETP.GE.AND P0, PT, R2, R3, PT ;   /* 0x0000000302007c0c */
                                                                       /* 0x000fe2000bf06270 */
        /*0010*/               @P0 EXIT ;                              /* 0x000000000000094d */
        /*0020*/              @!P1 BRA P2, 0x60 ;                      /* 0x0000000c00208947 */
        /*0030*/                   LDG.E R4, desc[UR4][R2.64] ;        /* 0x0000000402047981 */
        /*0040*/                   LDG.E.U16 R5, desc[UR4][R2.64] ;    /* 0x0000000402057981 */
        /*0050*/                   BRA 0x70 ;                          /* 0x0000000c00208947 */
        /*0060*/                   LDG.E.EF.128 R4, desc[UR4][R2.64] ; /* 0x0000000402047981 */
        /*0070*/                   FMNMX.NAN R4, R4, R5, PT ;          /* 0x0000000504047209 */
        /*0080*/                   DSETP.GEU.AND P0, PT, R6, R8, PT ;  /* 0x000000080600722a */
        /*0090*/                   F2F.F64.F32 R8, R4 ;                /* 0x0000000400087310 */
        /*00a0*/                   IMAD.X R7, RZ, RZ, R9, P1 ;         /* 0x000000ffff077224 */
        /*00b0*/                   STG.E.64 desc[UR4][R2.64], R4 ;     /* 0x0000000402007986 */
        /*00c0*/              @!P0 BRA 0x20 ;                          /* 0xfffffffc00648947 */
        /*00d0*/                   EXIT ;                              /* 0x000000000000794d */
"""


def test_resources_are_read():
    import sass

    assert sass.resources(USAGE) == {("sm_90", "_Z4funcv"): (96, 8, 6144)}


def test_a_turn_of_a_loop_is_the_shortest_way_through_it():
    import sass

    ((name, code),) = sass.functions(CODE)
    assert "by_network" in name
    assert len(code) == 14
    (turn,) = sass.loops(code)
    assert [each.address for each in turn] == [0x20, *range(0x60, 0xD0, 0x10)]
    assert [each.bytes for each in code if each.bytes] == [4, 2, 16, 8]


def test_shares_are_those_of_the_formulas():
    import cuda_budget
    import sass

    ((_, code),) = sass.functions(CODE)
    (turn,) = sass.loops(code)
    result = cuda_budget.predicted(turn, 2, 8)
    expected = {"convert": 0.5, "float64": 0.5, "issue": 4, "logic": 0.5, "memory": 1, "product": 0.5}
    assert result["instructions"] == expected
    copy, units = 8 / 4.3e12, max(0.5 / 16, 0.5 / 64, 4 / 128, 1 / 32) / 132 / 1.75e9
    assert copy > units
    assert (result["bound"], result["share"]) == ("copy", 1)
    assert result["in turn"] == pytest.approx(copy / (copy + units), abs=1e-3)
    slow = cuda_budget.predicted(turn * 100, 2, 8)
    assert slow["share"] == pytest.approx(copy / units / 100, abs=1e-3)


@pytest.mark.parametrize(("rows", "network"), [(1, 2), (2, 2), (31, 32), (33, 36), (61, 64), (65, 72), (120, 120)])
def test_the_network_of_a_number_of_rows(rows: int, network: int):
    import cuda_budget

    assert cuda_budget.network_of(rows) == network


@pytest.mark.parametrize(("registers", "warps"), [(32, 64), (40, 48), (96, 20), (97, 16), (168, 12), (236, 8)])
def test_registers_bound_the_warps(registers: int, warps: int):
    import cuda_budget

    assert cuda_budget.warps(registers) == warps


def test_no_kernel_has_a_stack():
    import cuda_budget
    import sass

    if sass.cuobjdump() is None:
        pytest.skip("no cuobjdump: neither a CUDA toolkit nor triton is there")
    if (native.build_facts() or {}).get("CUDA") != "yes":
        pytest.skip("no extension with a CUDA part")
    resources = sass.resources(sass.dump(cuda_budget.extension(), "-res-usage"))
    assert len(resources) > 100
    assert not [name for name, use in resources.items() if use.stack], "registers are spilled, or indexed like memory"


def test_the_targets_are_met_on_paper():
    result = json.loads((ROOT / "benchmarks" / "results" / "cuda-budget.json").read_text(encoding="utf-8"))
    assert not result["with a stack"]
    for each in result["median"]:
        assert each["share"] >= (0.8 if each["rows"] <= 31 else 0.6), each
    for each in result["perturbations"]:
        assert each["share"] >= 0.7, each
        assert each["launches"] <= 3


def test_the_page_of_kernels_is_as_the_generator_writes_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    page = runpy.run_path(str(ROOT / "scripts" / "kernels_page.py"))
    assert page["PAGE"].read_text(encoding="utf-8") == page["page"](), "run python scripts/kernels_page.py"
