// The example workflow of image to video: a start picture with a learned concept in it, and regions over the clip.

const LAYOUT = {
  version: 1, width: 832, height: 480,
  regions: [
    {
      name: "rex", prompt: "a <rex> running to the right on green grass", color: "#ffb74d", strength: 1,
      keyframes: [{ t: 0, box: [0.05, 0.35, 0.35, 0.6] }, { t: 1, box: [0.6, 0.35, 0.35, 0.6] }],
    },
  ],
};

// [key, type, x, y, width, height, widget values by name]
export const NODES = [
  ["model", "UNETLoader", 20, 60, 340, 90, { unet_name: "wan2.1_i2v_480p_14B_fp16.safetensors", weight_dtype: "default" }],
  ["clip", "CLIPLoader", 20, 220, 340, 120, { clip_name: "umt5_xxl_fp8_e4m3fn_scaled.safetensors", type: "wan" }],
  ["vae", "VAELoader", 20, 410, 340, 70, { vae_name: "wan_2.1_vae.safetensors" }],
  ["eye", "CLIPVisionLoader", 20, 550, 340, 70, { clip_name: "clip_vision_h.safetensors" }],
  ["start", "LoadImage", 20, 690, 340, 330, { image: "example.png" }],
  ["concepts", "CCVD_ConceptLibrary", 410, 60, 340, 330, { library: "my_concepts" }],
  ["seen", "CLIPVisionEncode", 410, 460, 340, 90, { crop: "none" }],
  ["note", "MarkdownNote", 410, 630, 340, 390, {}],
  ["regions", "CCVD_RegionMask", 800, 60, 520, 960, { layout: JSON.stringify(LAYOUT), width: 832, height: 480, length: 81 }],
  ["aggregate", "CCVD_AggregateAdapters", 1370, 60, 400, 560, { prompt: "on green grass", region_prompts: "alone" }],
  ["negative", "CLIPTextEncode", 1370, 690, 400, 90, { text: "" }],
  ["shift", "ModelSamplingSD3", 1370, 860, 400, 70, { shift: 8 }],
  ["video", "WanImageToVideo", 1820, 60, 400, 230, { width: 832, height: 480, length: 81, batch_size: 1 }],
  ["sampler", "CCVD_Sampler", 1820, 360, 400, 430, {
    seed: 1, steps: 20, cfg: 6, sampler_name: "uni_pc", scheduler: "simple", denoise: 1, mode: "attention",
  }],
  ["decode", "VAEDecode", 2270, 60, 400, 60, {}],
  ["create", "CreateVideo", 2270, 190, 400, 110, { fps: 16 }],
  ["save", "SaveVideo", 2270, 370, 400, 560, { filename_prefix: "ccvd/image_to_video" }],
];
// [from, output name, to, input name]
export const LINKS = [
  ["model", "MODEL", "aggregate", "model"], ["clip", "CLIP", "aggregate", "clip"],
  ["concepts", "library", "aggregate", "library"], ["regions", "regions", "aggregate", "regions"],
  ["start", "IMAGE", "regions", "background"], ["clip", "CLIP", "negative", "clip"],
  ["eye", "CLIP_VISION", "seen", "clip_vision"], ["start", "IMAGE", "seen", "image"],
  ["aggregate", "conditioning", "video", "positive"], ["negative", "CONDITIONING", "video", "negative"],
  ["vae", "VAE", "video", "vae"], ["start", "IMAGE", "video", "start_image"],
  ["seen", "CLIP_VISION_OUTPUT", "video", "clip_vision_output"],
  ["aggregate", "model", "shift", "model"], ["shift", "MODEL", "sampler", "model"],
  ["video", "positive", "sampler", "positive"], ["video", "negative", "sampler", "negative"],
  ["video", "latent", "sampler", "latent_image"],
  ["sampler", "latent", "decode", "samples"], ["vae", "VAE", "decode", "vae"],
  ["decode", "IMAGE", "create", "images"], ["create", "VIDEO", "save", "video"],
];
export const NOTE = `## Image to video, with a concept

The start picture shows what you have taught: the video goes on from it, and the concept keeps its looks.

1. **Learn** it on the text-to-video model of the same size (Wan 2.1 T2V 14B here), from pictures. It works on this model too.
2. **Load Image**: a picture with it, drawn with the concept or a photo.
3. **Region Mask** shows that picture: put the box around the concept at time 0, and then where it is to go.
4. **Run**.

Choose the files that you have in the loaders on the left.`;
