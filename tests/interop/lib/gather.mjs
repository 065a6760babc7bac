// Runs in a page: the candidates that its browser finds with the STUN server at this URL, up to the first server-reflexive one.
export async function gather(urls) {
    const connection = new RTCPeerConnection({ iceServers: [{ urls }] });
    const candidates = [];
    const done = new Promise((resolve) => {
        connection.onicecandidate = ({ candidate }) => {
            if (candidate) candidates.push(candidate.candidate);
            if (!candidate || candidate.type === 'srflx') resolve();
        };
    });
    connection.createDataChannel('x');
    await connection.setLocalDescription();
    await done;
    connection.close();
    return candidates.filter(Boolean);
}
