"""Cases of bad input: images whose uneven light cannot be corrected."""

from pipeline.bad_inputs.cases import case, images


@case(
    "Config",
    "plan",
    "datasets.{name}.preprocess.background: expected radius_px with method rolling_ball, found dark. Remove it, or set "
    "a method that uses it.",
)
def a_dark_level_without_a_flat_field(folder):
    return images(folder, preprocess={"background": {"method": "rolling_ball", "dark": 100}})


@case(
    "Config",
    "plan",
    "datasets.{name}.preprocess.background.method: expected at least 3 images for flat_field, found 1 to estimate the "
    "illumination from. Add images, or set another method.",
    is_judged_last=True,
)
def a_flat_field_of_one_training_image(folder):
    return images(folder, preprocess={"background": {"method": "flat_field"}})
