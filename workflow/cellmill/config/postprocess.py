"""Config sections `postprocess` and `evaluate`. Their defaults are defined only here."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cellmill.config.closed import Closed


class Threshold(Closed):
    """Probability threshold that separates foreground from background."""

    method: Literal["mcc", "fixed"] = Field(
        "mcc",
        description="mcc: the best Matthews correlation on the validation images (0.5 without any). "
        "fixed: the value given.",
    )
    value: float | None = Field(None, gt=0, lt=1, description="fixed: the threshold, a probability.")

    @model_validator(mode="after")
    def _value_goes_with_fixed(self) -> "Threshold":
        if self.method == "fixed" and self.value is None:
            raise ValueError("expected a value for method fixed, found none. Give one between 0 and 1")
        if self.method == "mcc" and self.value is not None:
            raise ValueError(f"expected no value for method mcc, found {self.value}. Set method to fixed")
        return self


class Closing(Closed):
    """The closing of small gaps in the predicted mask, before and after boundary tuning."""

    footprint: Literal["cross", "square", "disk"] = Field(
        "cross", description="Shape of the neighbourhood. Paper 4 does not say; a cross is the library default."
    )
    radius_px: int = Field(
        1, ge=0, le=50, description="Its reach in px of the preprocessed image; 0 switches the closing off."
    )


class Boundary(Closed):
    """Classifier that relabels the pixels along the borders of the predicted mask (paper 4)."""

    classifier: Literal["svm", "bayes", "none"] = Field(
        "svm",
        description="svm: a support vector machine with a cubic kernel, kept as its exact polynomial. "
        "bayes: Gaussian naive Bayes. none: borders stay as predicted.",
    )
    apply: Literal["if_better", "always"] = Field(
        "if_better",
        description="if_better: only where it raises the mean Dice of the validation images (without any: where "
        "its accuracy on held-out images beats the labels that are there). always: as the paper.",
    )
    images: int = Field(200, ge=1, description="Training images to take boundary pixels from.")
    pixels_per_image: int = Field(50, ge=1, description="Boundary pixels to take from each of them.")
    standardise: bool = Field(
        True,
        description="Give grey value and Sobel magnitude mean 0 and variance 1 first. The paper: false.",
    )
    coef0: float = Field(
        1.0,
        ge=0,
        description="svm: constant of the kernel. 1 gives a full cubic polynomial; the paper's (the library's) "
        "0 a homogeneous one, whose result hangs on the origin of the features.",
    )
    cost: float = Field(1.0, gt=0, description="svm: C, the price of a pixel on the wrong side.")
    scales_px: list[Annotated[float, Field(ge=0, le=20)]] = Field(
        default_factory=lambda: [0.0],
        min_length=1,
        max_length=4,
        description="The classifier looks at grey value and Sobel magnitude of the image smoothed with each of these "
        "Gaussians (sigma, px); 0 is the image itself. The paper: [0].",
    )
    repeats: int = Field(
        10, ge=0, description="Random divisions behind the reported held-out accuracy; 0 leaves it out."
    )
    repeat_pixels: int = Field(
        2000,
        ge=10,
        description="svm: pixels to train on in each of those divisions (time grows with the square). The paper: 8000.",
    )


class Instances(Closed):
    """Splitting of the mask into objects, and object filters. All sizes are in pixels of the preprocessed image."""

    method: Literal["auto", "components", "watershed", "contour", "distance", "flow"] = Field(
        "auto",
        description="components: connected foreground is one object. watershed: touching cells are split at their "
        "necks. contour, distance, flow: along the contours, at the passes between the distances, or where the flows "
        "meet, of a network whose output is that. auto: whichever of those that the network allows has the best mean "
        "Kaggle AP on the validation images (without any the last of them).",
    )
    split_depth_px: float | None = Field(
        None,
        gt=0,
        description="watershed: a neck that is this much narrower, in radius, than the smaller part splits. Left "
        "out: the best of a short list on the validation images (1 without any).",
    )
    split_depth: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="contour, distance: a pass this much below the lower one of its two tops splits, in units of the "
        "map, which goes from 0 to 1. Left out: the best of a short list on the validation images (0.2 without any).",
    )
    max_flow_error: float | None = Field(
        0.4,
        gt=0,
        le=4,
        description="flow: objects whose own flow differs more from the predicted one (mean squared difference of the "
        "vectors) are dropped, as cellpose does; null keeps all.",
    )
    min_area_px: int | None = Field(
        None,
        ge=0,
        description="Smaller objects are dropped (px: number of pixels). Left out: the best of a short list on "
        "the validation images, fractions of their median object (0 without any).",
    )
    max_area_px: int | None = Field(
        None, ge=1, description="Larger objects are dropped (px: number of pixels). Left out: none is too large."
    )
    min_solidity: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Objects that fill less of their convex hull are dropped. Left out: any shape will do.",
    )
    exclude_border: bool = Field(
        False,
        description="Drop objects that the edge of the image cuts. Scores of the final objects then leave out "
        "the true ones there.",
    )
    fill_holes_px: int | None = Field(
        None,
        ge=0,
        description="Holes up to this area (number of pixels) are filled; 0: none. Left out: a quarter of the "
        "median object of the validation images (0 without any).",
    )

    @model_validator(mode="after")
    def _sizes_leave_room(self) -> "Instances":
        if self.max_area_px is not None and (self.min_area_px or 0) > self.max_area_px:
            raise ValueError(
                f"expected min_area_px up to max_area_px, found {self.min_area_px} and {self.max_area_px}: nothing "
                "would be left. Exchange them"
            )
        return self


class Postprocess(Closed):
    """Conversion of probability maps to objects."""

    threshold: Threshold = Field(default_factory=Threshold, description="From probability to mask.")
    closing: Closing = Field(default_factory=Closing, description="Closing of small gaps.")
    boundary: Boundary = Field(default_factory=Boundary, description="Tuning of the borders.")
    instances: Instances = Field(default_factory=Instances, description="From mask to objects.")
    search_images: int = Field(
        100,
        ge=1,
        description="Validation images on which sizes and the use of the boundary classifier are chosen; the threshold "
        "is chosen on all. An image beyond 3072 x 3072 px counts as the eight windows that stand for it.",
    )


class Evaluate(Closed):
    """Scores and their confidence intervals."""

    bootstrap: int = Field(
        1000,
        ge=0,
        description="Replicates of the bootstrap over images behind each 95 % interval; 0 leaves them out.",
    )
    border_tolerance_px: int = Field(
        2,
        ge=0,
        le=50,
        description="Borders of objects that are this near count as the same, for the boundary F1 score (px of the raw "
        "image, and of the fitted one where both are scored).",
    )
    isbi2012: bool = Field(
        False,
        description="Score cells in tissue as ISBI 2012 does too: V_rand and V_info of the regions that the predicted "
        "membranes separate, once these are thinned to a line; and two predictors without a network, all foreground "
        "and one grey threshold. Foreground is the inside of cells.",
    )
