// What went wrong and what to do about it, in plain words.

export function aboutLink(problem, id) {
    switch (problem) {
        case 'lost':
            return {
                title: 'The connection was lost',
                text: 'The device may have been switched off, or one of you has lost the network.',
            };
        case 'offline':
            return {
                title: 'The device is not online',
                text: `No device named “${id}” can be found. Check that it is switched on and connected, and that the name is right.`,
            };
        case 'refused':
            return {
                title: 'The meeting point lets only some in',
                text: 'The address of this page lacks the key or the token, or has a wrong one. Ask the device’s owner for the whole address.',
            };
        case 'blocked':
            return {
                title: 'No way to the device',
                text: 'The device was called, but no connection came about. A firewall on either side may be in the way; another network may help.',
            };
        case 'unsupported':
            return {
                title: 'This browser can’t do it',
                text: 'It does not support WebRTC data channels, or they are switched off. Open this page in another browser.',
            };
        default:
            return {
                title: 'The meeting point can’t be reached',
                text: 'The server that brings you and the device together does not answer. Check this computer’s network.',
            };
    }
}

// error: an RpcError, or what saving threw.
export function aboutError(error, what) {
    if (error.name === 'QuotaExceededError') return 'There is not enough space left to save it here.';
    if (error.name !== 'RpcError') return `It could not be saved here: ${error.message}`;
    if (error.kind === 'timeout') return 'The device does not answer. It may be busy; try again in a moment.';
    if (error.kind === 'lost') return 'The connection was lost.';
    switch (error.code) {
        case 403:
            return `The device does not allow access to this ${what}.`;
        case 404:
            return `This ${what} does not exist (any more). It may have been moved, renamed or deleted.`;
        case 409:
            return 'The file was changed on the device while it was being downloaded. Start the download again.';
        case 416:
            return 'The file has become shorter on the device. Start the download again.';
        case 501:
            return 'This device offers no files. It may be another kind of device, or an older version.';
        case 502:
            return 'The data came damaged. Start the download again.';
        default:
            return `The device reports an error${error.message ? `: ${error.message}` : ''} (${error.code}).`;
    }
}
