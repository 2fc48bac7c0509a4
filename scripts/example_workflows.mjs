// What the example workflows consist of; make_example_workflows.mjs builds them in the page.

// [key, type, x, y, width, height, widget values by name]
const LEARN_AND_USE = [
  ["model", "CCVD_DemoModel", 20, 60, 300, 110, {}],
  ["pictures", "LoadImageTextDataSetFromFolder", 20, 240, 300, 110, { folder: "my_concept" }],
  ["note", "MarkdownNote", 20, 420, 300, 380, {}],
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
  ["save", "SaveVideo", 1720, 360, 420, 560, { filename_prefix: "ccvd/rex" }],
];
// [from, output name, to, input name]
const LEARN_AND_USE_LINKS = [
  ["model", "MODEL", "learn", "model"], ["model", "CLIP", "learn", "clip"], ["model", "VAE", "learn", "vae"],
  ["pictures", "images", "learn", "images"], ["pictures", "texts", "learn", "captions"],
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

1. Put 4 to 6 pictures of it into a folder inside ComfyUI's **input** folder and choose that folder above. Beside each
   picture, a text file of the same name with its caption: \`a <rex> still on green grass\`.
2. In **Learn Concept** give it a *name* and say what kind of thing it is (*class words*).
3. Write \`<name>\` in the prompt of **Aggregate Adapters**.
4. Queue. The first run learns; after that only the video is made.

For your own model, replace **CCVD Demo Model** by Load Diffusion Model, Load CLIP (type wan) and Load VAE.`;

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
  ["first pictures", "LoadImageTextDataSetFromFolder", 20, 240, 300, 110, { folder: "my_first_concept" }],
  ["second pictures", "LoadImageTextDataSetFromFolder", 20, 420, 300, 110, { folder: "my_second_concept" }],
  ["note", "MarkdownNote", 20, 600, 300, 460, {}],
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
  ["first pictures", "images", "first", "images"], ["first pictures", "texts", "first", "captions"],
  ["second pictures", "images", "second", "images"], ["second pictures", "texts", "second", "captions"],
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

1. Put the pictures of the two concepts, each with its caption in a text file beside it, into the two folders above. The
   two **Learn Concept** nodes learn one after the other into one library.
2. **Region Mask**: drag to draw a box, choose its concept, write its prompt. Move the time and then the box, and it
   travels.
3. **Aggregate Adapters** reads those prompts and its own, which says only what is around the regions.
4. **CCVD Sampler** keeps every concept in its region. The mode *one at a time* leaves no one out; *attention* is twice as
   fast, and KSampler does it too.`;

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

export const WORKFLOWS = {
  "1 Learn a concept and make a video": {
    nodes: LEARN_AND_USE, links: LEARN_AND_USE_LINKS, note: LEARN_AND_USE_NOTE, viewport: { width: 2260, height: 1180 },
  },
  "2 Two concepts in one scene": {
    nodes: REGIONS, links: REGION_LINKS, note: REGION_NOTE, viewport: { width: 2680, height: 1380 },
  },
};
