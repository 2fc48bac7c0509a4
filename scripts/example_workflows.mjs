// What the example workflows consist of; make_example_workflows.mjs builds them in the page.
import { LINKS as IMAGE_TO_VIDEO_LINKS, NODES as IMAGE_TO_VIDEO, NOTE as IMAGE_TO_VIDEO_NOTE } from "./image_to_video_workflow.mjs";

// [key, type, x, y, width, height, widget values by name]
const LEARN_AND_USE = [
  ["model", "CCVD_DemoModel", 20, 60, 300, 110, {}],
  ["pictures", "CCVD_DemoPictures", 20, 240, 300, 400, { what: "fox", name: "rex" }],
  ["note", "MarkdownNote", 20, 710, 300, 420, {}],
  ["learn", "CCVD_LearnConcept", 380, 60, 380, 880, {
    name: "rex", class_words: "dog", kind: "subject", library: "my_concepts", preview_every: 50,
  }],
  ["report", "PreviewAny", 820, 60, 380, 200, {}],
  ["losses", "PreviewImage", 820, 330, 380, 290, {}],
  ["negative", "CLIPTextEncode", 820, 690, 380, 100, { text: "" }],
  ["latent", "EmptyHunyuanLatentVideo", 820, 860, 380, 150, { width: 128, height: 128, length: 9, batch_size: 1 }],
  ["aggregate", "CCVD_AggregateAdapters", 1260, 60, 400, 660, { prompt: "a <rex> moving right on green grass" }],
  ["sampler", "KSampler", 1260, 790, 400, 290, {
    seed: 1, steps: 20, cfg: 3, sampler_name: "euler", scheduler: "simple", denoise: 1,
  }],
  ["decode", "VAEDecode", 1720, 60, 420, 60, {}],
  ["create", "CreateVideo", 1720, 180, 420, 110, { fps: 8 }],
  ["save", "SaveVideo", 1720, 360, 420, 560, { filename_prefix: "ccvd/%CCVD_LearnConcept.name%" }],
];
// [from, output name, to, input name]
const LEARN_AND_USE_LINKS = [
  ["model", "MODEL", "learn", "model"], ["model", "CLIP", "learn", "clip"], ["model", "VAE", "learn", "vae"],
  ["pictures", "images", "learn", "images"], ["pictures", "captions", "learn", "captions"],
  ["learn", "loss_picture", "losses", "images"], ["learn", "report", "report", "source"],
  ["model", "MODEL", "aggregate", "model"], ["model", "CLIP", "aggregate", "clip"],
  ["learn", "library", "aggregate", "library"],
  ["model", "CLIP", "negative", "clip"],
  ["aggregate", "model", "sampler", "model"], ["aggregate", "conditioning", "sampler", "positive"],
  ["negative", "CONDITIONING", "sampler", "negative"], ["latent", "LATENT", "sampler", "latent_image"],
  ["sampler", "LATENT", "decode", "samples"], ["model", "VAE", "decode", "vae"],
  ["decode", "IMAGE", "create", "images"], ["create", "VIDEO", "save", "video"],
];
const LEARN_AND_USE_NOTE = `## Learn a concept and use it

Press **Run**. It learns a fox that the demo model has never seen, from the five pictures of **Demo Pictures**, and makes a
video with it. The first run takes a few minutes; after that only the video is made.

1. **Learn Concept** gives it a *name*, and *class words*: what kind of thing it is.
2. The prompt of **Aggregate Adapters** calls it by its name in angle brackets.
3. Change the prompt, or *what* and the names, and run again.

**Your own pictures:** put **Load Image-Text (from Folder)** in the place of Demo Pictures. It reads a folder inside
ComfyUI's input folder, with a caption in a text file beside each picture.

**Photos** need a Wan model: replace **CCVD Demo Model**, which only knows emoji on plain backgrounds, by Load Diffusion
Model, Load CLIP (type wan) and Load VAE.`;

const LAYOUT = {
  version: 1, width: 128, height: 128,
  regions: [
    {
      name: "rex", prompt: "a <rex> moving down on green grass", color: "#ff8a65", strength: 1,
      keyframes: [{ t: 0, box: [0.03, 0.06, 0.44, 0.46] }, { t: 1, box: [0.03, 0.3, 0.44, 0.46] }],
    },
    {
      name: "cab", prompt: "a <cab> still on green grass", color: "#4fc3f7", strength: 1,
      keyframes: [{ t: 0, box: [0.53, 0.4, 0.44, 0.46] }],
    },
  ],
};
const learn = (name, words) => ({
  name, class_words: words, kind: "subject", library: "my_scene", preview_every: 100,
});
const REGIONS = [
  ["model", "CCVD_DemoModel", 20, 60, 300, 110, {}],
  ["first pictures", "CCVD_DemoPictures", 20, 240, 300, 380, { what: "fox", name: "rex" }],
  ["second pictures", "CCVD_DemoPictures", 20, 690, 300, 380, { what: "taxi", name: "cab" }],
  ["note", "MarkdownNote", 380, 1030, 770, 260, {}],
  ["first", "CCVD_LearnConcept", 380, 60, 360, 900, learn("rex", "dog")],
  ["second", "CCVD_LearnConcept", 790, 60, 360, 900, learn("cab", "car")],
  ["regions", "CCVD_RegionMask", 1200, 60, 460, 900, {
    layout: JSON.stringify(LAYOUT), width: 128, height: 128, length: 9,
  }],
  ["aggregate", "CCVD_AggregateAdapters", 1710, 60, 400, 560, {
    prompt: "on green grass", region_prompts: "alone",
  }],
  ["sampler", "CCVD_Sampler", 1710, 690, 400, 430, {
    seed: 1, steps: 20, cfg: 4, sampler_name: "euler", scheduler: "simple", denoise: 1, mode: "one at a time",
    region_steps: 0.6, contrast_steps: 0.4,
  }],
  ["negative", "CLIPTextEncode", 2160, 60, 400, 90, { text: "" }],
  ["latent", "EmptyHunyuanLatentVideo", 2160, 220, 400, 150, { width: 128, height: 128, length: 9, batch_size: 1 }],
  ["decode", "VAEDecode", 2160, 440, 400, 60, {}],
  ["create", "CreateVideo", 2160, 560, 400, 110, { fps: 8 }],
  ["save", "SaveVideo", 2160, 730, 400, 560, { filename_prefix: "ccvd/scene" }],
];
const into = (to) => [["model", "MODEL", to, "model"], ["model", "CLIP", to, "clip"], ["model", "VAE", to, "vae"]];
const REGION_LINKS = [
  ...into("first"), ...into("second"),
  ["first pictures", "images", "first", "images"], ["first pictures", "captions", "first", "captions"],
  ["second pictures", "images", "second", "images"], ["second pictures", "captions", "second", "captions"],
  ["first", "library", "second", "after"],
  ["model", "MODEL", "aggregate", "model"], ["model", "CLIP", "aggregate", "clip"],
  ["second", "library", "aggregate", "library"], ["regions", "regions", "aggregate", "regions"],
  ["model", "CLIP", "negative", "clip"],
  ["aggregate", "model", "sampler", "model"], ["aggregate", "conditioning", "sampler", "positive"],
  ["negative", "CONDITIONING", "sampler", "negative"], ["latent", "LATENT", "sampler", "latent_image"],
  ["sampler", "latent", "decode", "samples"], ["model", "VAE", "decode", "vae"],
  ["decode", "IMAGE", "create", "images"], ["create", "VIDEO", "save", "video"],
];
const REGION_NOTE = `## Two concepts, each in its own region

Press **Run**. It learns a fox and a taxi, and puts each into its own box.

1. The two **Learn Concept** nodes learn one after the other into one library. For your own pictures, put Load Image-Text
   (from Folder) in the place of Demo Pictures.
2. **Region Mask**: drag to draw a box, choose its concept, write its prompt. Move the time and then the box, and it
   travels.
3. **Aggregate Adapters** reads those prompts and its own, which says only what is around the regions.
4. **CCVD Sampler** keeps every concept in its region. The mode *one at a time* leaves no one out; *attention* is twice as
   fast, and KSampler does it too.`;

const SMALL = [
  ["model", "CCVD_LoadTextToVideo", 20, 60, 300, 120, { folder: "demo (64 x 64, comes with the pack)" }],
  ["pictures", "CCVD_DemoPictures", 20, 250, 300, 400, { what: "basketball", name: "hoops" }],
  ["note", "MarkdownNote", 20, 720, 300, 340, {}],
  ["learn", "CCVD_LearnConcept", 380, 60, 380, 880, {
    name: "hoops", class_words: "ball", kind: "subject", library: "my_small_concepts", preview_every: 50,
  }],
  ["report", "PreviewAny", 820, 60, 380, 200, {}],
  ["losses", "PreviewImage", 820, 330, 380, 290, {}],
  ["negative", "CLIPTextEncode", 820, 690, 380, 100, { text: "" }],
  ["latent", "CCVD_EmptyTextToVideo", 820, 860, 380, 150, { width: 64, height: 64, length: 9, batch_size: 1 }],
  ["aggregate", "CCVD_AggregateAdapters", 1260, 60, 400, 660, { prompt: "a <hoops> moving right on green grass" }],
  ["sampler", "KSampler", 1260, 790, 400, 290, {
    seed: 1, steps: 20, cfg: 3, sampler_name: "euler", scheduler: "normal", denoise: 1,
  }],
  ["decode", "VAEDecode", 1720, 60, 420, 60, {}],
  ["create", "CreateVideo", 1720, 180, 420, 110, { fps: 8 }],
  ["save", "SaveVideo", 1720, 360, 420, 560, { filename_prefix: "ccvd/small_%CCVD_LearnConcept.name%" }],
];
const SMALL_NOTE = `## Another kind of model

The same graph on a text-to-video model of ModelScope's kind, a folder of diffusers: everything but the first node and the
empty latent is as with Wan.

The **demo** is tiny and draws 64 x 64 pixels. For a real one put the folder of ModelScope text-to-video or ZeroScope into
ComfyUI/models/diffusers, press r, choose it, and set the latent to 256 x 256 and 16 frames.`;

/** What the picture of the region editor shows: the first region, at this frame. */
export const EDITOR = {
  frame: 20,
  values: {
    layout: JSON.stringify({
      version: 1, width: 832, height: 480,
      regions: [
        {
          name: "rex", prompt: "a <rex> jumping", color: "#ffb74d", strength: 1,
          keyframes: [
            { t: 0, box: [0.04, 0.5, 0.24, 0.44] }, { t: 0.5, box: [0.3, 0.1, 0.24, 0.44] },
            { t: 1, box: [0.42, 0.5, 0.24, 0.44] },
          ],
        },
        {
          name: "cab", prompt: "a <cab>, parked", color: "#4fc3f7", strength: 1,
          keyframes: [{ t: 0, box: [0.7, 0.4, 0.27, 0.5] }],
        },
      ],
    }),
    width: 832, height: 480, length: 81,
  },
};

/** File name, which is the title in the template browser -> what it consists of, and its picture for the README; none: it needs files that are not here. */
export const WORKFLOWS = {
  "1 Learn a concept and make a video": {
    nodes: LEARN_AND_USE, links: LEARN_AND_USE_LINKS, note: LEARN_AND_USE_NOTE, picture: "learn_and_use_a_concept",
  },
  "2 Two concepts in one scene": {
    nodes: REGIONS, links: REGION_LINKS, note: REGION_NOTE, picture: "two_concepts_in_regions",
  },
  "3 Another kind of model": { nodes: SMALL, links: LEARN_AND_USE_LINKS, note: SMALL_NOTE, picture: "another_kind_of_model" },
  "4 Image to video": {
    nodes: IMAGE_TO_VIDEO, links: IMAGE_TO_VIDEO_LINKS, note: IMAGE_TO_VIDEO_NOTE,
  },
};
