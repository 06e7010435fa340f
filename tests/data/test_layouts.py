from __future__ import annotations

from pathlib import Path

import pytest

from mvmsr.data.layouts import (
    LayoutError,
    find_pairs,
    natural_key,
    passed_over,
    recognise,
    resolve_dataroot,
    template_problem,
)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


@pytest.mark.parametrize(
    ("files", "title", "expected"),
    [
        (
            ["DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic/X4/0001x4.png", "DIV2K_valid_HR/0801.png"],
            "DIV2K",
            ("0001", "DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic/X4/0001x4.png"),
        ),
        (
            ["Flickr2K_HR/000001.png", "Flickr2K_LR_bicubic/X4/000001x4.png"],
            "DIV2K",
            ("000001", "Flickr2K_HR/000001.png", "Flickr2K_LR_bicubic/X4/000001x4.png"),
        ),
        (
            ["GTmod12/baby.png", "LRbicx4/baby.png", "LRbicx2/baby.png", "original/baby.png"],
            "BasicSR",
            ("baby", "GTmod12/baby.png", "LRbicx4/baby.png"),
        ),
        (
            ["HR/baby.png", "LR_bicubic/X4/babyx4.png", "LR_bicubic/X2/babyx2.png"],
            "EDSR",
            ("baby", "HR/baby.png", "LR_bicubic/X4/babyx4.png"),
        ),
        (
            [
                "image_SRF_4/img_001_SRF_4_HR.png",
                "image_SRF_4/img_001_SRF_4_LR.png",
                "image_SRF_2/img_001_SRF_2_HR.png",
            ],
            "SelfExSR",
            ("img_001", "image_SRF_4/img_001_SRF_4_HR.png", "image_SRF_4/img_001_SRF_4_LR.png"),
        ),
        (
            ["img_001_SRF_4_HR.png", "img_001_SRF_4_LR.png", "img_001_SRF_4_bicubic.png"],
            "SelfExSR",
            ("img_001", "img_001_SRF_4_HR.png", "img_001_SRF_4_LR.png"),
        ),
        (["a.JPG", "notes.txt", ".hidden.png"], "folder of images", ("a", "a.JPG", None)),
        (["image_SRF_4/a_SRF_4_HR.png"], "SelfExSR", ("a", "image_SRF_4/a_SRF_4_HR.png", None)),
        (["a_HR.png"], "SelfExSR", ("a", "a_HR.png", None)),
        (["GTmod12/a.png"], "BasicSR", ("a", "GTmod12/a.png", None)),
    ],
)
def test_known_layouts(tmp_path: Path, files: list[str], title: str, expected: tuple[str, str, str | None]):
    touch(tmp_path, *files)
    assert recognise(tmp_path).title.startswith(title)
    (pair,) = find_pairs(tmp_path)
    low = None if pair.lq is None else pair.lq.relative_to(tmp_path).as_posix()
    assert (pair.name, pair.gt.relative_to(tmp_path).as_posix(), low) == expected


@pytest.mark.parametrize("folder", [".", "image_SRF_4"])
def test_originals_of_another_scale_serve_without_its_low_quality_files(tmp_path: Path, folder: str):
    names = [f"image_SRF_4/img_{n}_SRF_4_{kind}.png" for n in (1, 2) for kind in ("HR", "LR", "glasner")]
    touch(tmp_path, *names, "image_SRF_8/img_1_SRF_8_HR.png")
    assert recognise(tmp_path / folder, 2).title == "SelfExSR (image_SRF_4)"
    pairs = find_pairs(tmp_path / folder, scale=2)
    assert [(pair.name, pair.gt.name, pair.lq) for pair in pairs] == [
        ("img_1", "img_1_SRF_4_HR.png", None),
        ("img_2", "img_2_SRF_4_HR.png", None),
    ]
    touch(tmp_path, "GTmod12/baby.png")
    assert recognise(tmp_path, 2).title.startswith("BasicSR")


def test_originals_of_several_scales_in_one_folder(tmp_path: Path):
    touch(tmp_path, *[f"a_SRF_{n}_{kind}.png" for n in (2, 4) for kind in ("HR", "LR")])
    for scale, number, low in ((2, 2, "a_SRF_2_LR.png"), (4, 4, "a_SRF_4_LR.png"), (3, 2, None)):
        (pair,) = find_pairs(tmp_path, scale=scale)
        assert (pair.name, pair.gt.name, pair.lq and pair.lq.name) == ("a", f"a_SRF_{number}_HR.png", low)


def test_two_explicit_folders_with_a_template(tmp_path: Path):
    touch(tmp_path, "hr/a.png", "hr/b.png", "lr/a_small.jpg", "lr/b_small.jpg")
    pairs = find_pairs(tmp_path / "hr", tmp_path / "lr", filename_tmpl="{}_small")
    assert [(p.name, p.lq.name) for p in pairs] == [("a", "a_small.jpg"), ("b", "b_small.jpg")]


def test_the_folder_above_x4_will_do_where_it_holds_no_images(tmp_path: Path):
    touch(tmp_path, "hr/0001.png", "lr/X4/0001x4.png", "lr/X2/0001x2.png")
    assert find_pairs(tmp_path / "hr", tmp_path / "lr")[0].lq == tmp_path / "lr/X4/0001x4.png"
    touch(tmp_path, "lr/0001.png")
    assert find_pairs(tmp_path / "hr", tmp_path / "lr")[0].lq == tmp_path / "lr/0001.png"


def test_originals_cut_to_multiples_of_12_do_not_serve_for_5(tmp_path: Path):
    touch(tmp_path, "GTmod12/baby.png")
    assert [recognise(tmp_path, scale).gt.name for scale in (2, 3, 4, 6)] == ["GTmod12"] * 4
    with pytest.raises(LayoutError, match="no layout known for x5"):
        recognise(tmp_path, 5)


def test_meta_info_chooses_and_orders(tmp_path: Path):
    touch(tmp_path, "hr/a.png", "hr/b.png", "hr/c.png", "lr/a.png", "lr/b.png", "lr/c.png")
    (tmp_path / "meta.txt").write_text("c.png (480,480,3)\na.png (480,480,3)\n\n")
    pairs = find_pairs(tmp_path / "hr", tmp_path / "lr", meta_info_file=tmp_path / "meta.txt")
    assert [pair.name for pair in pairs] == ["c", "a"]


def test_natural_order(tmp_path: Path):
    touch(tmp_path, "img10.png", "img2.png", "img1.png", "b.png")
    assert [pair.name for pair in find_pairs(tmp_path)] == ["b", "img1", "img2", "img10"]
    assert natural_key("7a") < natural_key("10a") < natural_key("x1")


@pytest.mark.parametrize(
    ("files", "arguments", "messages"),
    [
        (["hr/a.png", "hr/b.png", "lr/a.png"], {}, ["1 without a low-quality version", "b.png", "b or bx4"]),
        (["hr/a.png", "lr/a.png", "lr/z.png"], {}, ["1 without a ground truth", "z.png"]),
        ([f"hr/{n}.png" for n in range(8)] + ["lr/x.png"], {}, ["8 without", "4.png", "and 3 more"]),
        (["hr/a.png", "hr/a.jpg", "lr/a.png"], {}, ["differ by suffix only", "a.jpg and a.png"]),
        (["hr/a.png", "lr/a.png"], {"filename_tmpl": "x4"}, ["filename_tmpl must contain {}"]),
        (["hr/notes.txt", "lr/a.png"], {}, ["no layout known", "notes.txt"]),
        (["hr/a.png"], {}, ["lr is not a folder"]),
        (["lr/a.png"], {}, ["hr is not a folder"]),
        (["hr/a.png", "lr/a.png"], {"meta_info_file": "none.txt"}, ["none.txt is not a file"]),
    ],
)
def test_what_does_not_pair_is_named(tmp_path: Path, files: list[str], arguments: dict, messages: list[str]):
    touch(tmp_path, *files)
    with pytest.raises(LayoutError) as caught:
        find_pairs(tmp_path / "hr", tmp_path / "lr", **arguments)
    for message in messages:
        assert message in str(caught.value)


def test_meta_info_may_name_folders_below_the_root(tmp_path: Path):
    """As the lists of Real-ESRGAN, also where some folder looks like a layout's."""
    for name in ("DF2K_HR/a.png", "DF2K_HR/b.png", "OST/sky/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "meta.txt").write_text("OST/sky/a.png\nDF2K_HR/a.png (480,480,3)\n")
    pairs = find_pairs(tmp_path, meta_info_file=tmp_path / "meta.txt")
    assert [pair.gt for pair in pairs] == [tmp_path / "OST/sky/a.png", tmp_path / "DF2K_HR/a.png"]
    assert [pair.lq for pair in pairs] == [None, None]


def test_equal_names_in_several_folders_are_told_apart(tmp_path: Path):
    """Scores and saved pictures are kept by name."""
    touch(tmp_path, "gt/a/1.png", "gt/b/1.png", "gt/b/c/2.png")
    (tmp_path / "meta.txt").write_text("a/1.png\nb/1.png\nb/c/2.png\n")
    pairs = find_pairs(tmp_path / "gt", meta_info_file=tmp_path / "meta.txt")
    assert [pair.name for pair in pairs] == ["a/1", "b/1", "b/c/2"]


def test_names_from_a_list_lead_nowhere_else(tmp_path: Path):
    touch(tmp_path, "gt/1.png", "other/1.png")
    (tmp_path / "meta.txt").write_text(f"../other/1.png\n{tmp_path}/gt/1.png\n")
    pairs = find_pairs(tmp_path / "gt", meta_info_file=tmp_path / "meta.txt")
    assert [pair.name for pair in pairs] == ["other/1", "gt/1"]


@pytest.mark.parametrize("files", [("hr/a/1.png", "hr/b/1.png", "lr/1.png"), ("hr/1.png", "hr/1x4.png", "lr/1x4.png")])
def test_no_two_ground_truths_share_a_low_quality_picture(tmp_path: Path, files: tuple[str, ...]):
    touch(tmp_path, *files)
    listed = "".join(f"{file.removeprefix('hr/')}\n" for file in files if file.startswith("hr/"))
    (tmp_path / "meta.txt").write_text(listed)
    with pytest.raises(LayoutError, match="1 that another ground truth has already: 1"):
        find_pairs(tmp_path / "hr", tmp_path / "lr", meta_info_file=tmp_path / "meta.txt")


def test_meta_info_naming_absent_files(tmp_path: Path):
    touch(tmp_path, "hr/a.png")
    (tmp_path / "meta.txt").write_text("a.png\ngone.png\n")
    with pytest.raises(LayoutError, match=r"names 1 image that .* does not hold: gone\.png"):
        find_pairs(tmp_path / "hr", meta_info_file=tmp_path / "meta.txt")


def test_what_is_passed_over_is_counted_by_kind(tmp_path: Path):
    touch(tmp_path, "a.png", "b.HEIC", "c.heic", "d.jp2", ".hidden", "README", "more/e.png")
    assert passed_over(tmp_path) == "2 .heic, 1 .jp2, 1 without a suffix, 1 folder"
    assert passed_over(tmp_path / "more") == ""


@pytest.mark.parametrize("template", ["{}_{}", "{}{x}", "{0}", "{}{", "abc", "{}{0}", "{}{a.b}"])
def test_templates_that_are_none(template: str):
    assert repr(template) in template_problem(template)


def test_templates_that_are_right():
    assert [template_problem(t) for t in ("{}", "{}x4", "low_{}", "{}{{1}}")] == [""] * 4


def test_resolve_dataroot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path, "store/Set5/a.png", "work/datasets/Set14/a.png", "work/here/a.png")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("MVMSR_DATA_ROOT", raising=False)
    store = tmp_path / "store"
    assert resolve_dataroot("here") == tmp_path / "work/here"
    assert resolve_dataroot("Set14") == tmp_path / "work/datasets/Set14"
    assert resolve_dataroot("datasets/Set14") == tmp_path / "work/datasets/Set14"
    assert resolve_dataroot("datasets/Set5", store) == store / "Set5"
    assert resolve_dataroot(store / "Set5") == store / "Set5"
    monkeypatch.setenv("MVMSR_DATA_ROOT", str(store))
    assert resolve_dataroot("Set5") == store / "Set5"
    touch(tmp_path, "store/benchmark/Set5/HR/a.png", "store/benchmark/B100/HR/a.png")  # EDSR's archive
    assert resolve_dataroot("datasets/B100") == store / "benchmark/B100"
    assert resolve_dataroot("Set5") == store / "Set5"
    with pytest.raises(LayoutError) as caught:
        resolve_dataroot("datasets/Set6")
    assert str(tmp_path / "work/datasets/Set6") in str(caught.value)
    assert str(store / "Set6") in str(caught.value)
